//! The parsed document before it is given types: look-up, replacement and removal, with every value's place in the
//! file kept.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// A value with its place.
pub(crate) type Node<'i> = Spanned<DeValue<'i>>;

/// The value under `key` and the key's own place.
pub(crate) fn entry<'t, 'i>(
    table: &'t DeTable<'i>,
    key: &str,
) -> Option<(Range<usize>, &'t Node<'i>)> {
    let (name, value) = table.get_key_value(key)?;
    Some((name.span(), value))
}

/// The table under `key`, where there is one.
pub(crate) fn table<'t, 'i>(table: &'t DeTable<'i>, key: &str) -> Option<&'t DeTable<'i>> {
    match entry(table, key)?.1.get_ref() {
        DeValue::Table(inner) => Some(inner),
        _ => None,
    }
}

/// The value at `path`, where there is one. Of a list of tables the path goes on into the one with this `name`.
pub(crate) fn get<'t, 'i>(table: &'t DeTable<'i>, path: &[&str]) -> Option<&'t Node<'i>> {
    let (key, rest) = path.split_first()?;
    let (_, node) = entry(table, key)?;
    match (node.get_ref(), rest) {
        (_, []) => Some(node),
        (DeValue::Table(inner), rest) => get(inner, rest),
        (DeValue::Array(items), [name, rest @ ..]) => {
            let named = items.iter().find_map(|item| match item.get_ref() {
                DeValue::Table(table) => has_name(table, name).then_some(table),
                _ => None,
            })?;
            get(named, rest)
        }
        _ => None,
    }
}

/// A table's entries in the order of the file.
pub(crate) fn in_file_order<'t, 'i>(
    table: &'t DeTable<'i>,
) -> Vec<(&'t str, Range<usize>, &'t Node<'i>)> {
    let mut entries: Vec<_> = table
        .iter()
        .map(|(key, value)| (key.get_ref().as_ref(), key.span(), value))
        .collect();
    entries.sort_by_key(|(_, span, _)| span.start);
    entries
}

/// Puts `value` at `path`, making tables on the way and replacing whatever else is in the way. Of a list of tables the path
/// goes on into the one with this `name`.
pub(crate) fn set<'i>(table: &mut DeTable<'i>, path: &[&str], value: Node<'i>) {
    let Some((&key, rest)) = path.split_first() else {
        return;
    };
    let span = value.span();
    if rest.is_empty() {
        put(table, key, value);
        return;
    }
    if let Some(DeValue::Array(items)) = table.get_mut(key).map(Spanned::get_mut) {
        if let Some((name, rest)) = rest.split_first()
            && let Some(inner) = items.iter_mut().find_map(|item| called(item, name))
        {
            set(inner, rest, value);
        }
        return;
    }
    let is_table = self::table(table, key).is_some();
    if !is_table {
        put(
            table,
            key,
            Spanned::new(span, DeValue::Table(DeTable::new())),
        );
    }
    if let Some(DeValue::Table(inner)) = table.get_mut(key).map(Spanned::get_mut) {
        set(inner, rest, value);
    }
}

/// The table in this element of a list, where its `name` is this one.
fn called<'t, 'i>(item: &'t mut Node<'i>, name: &str) -> Option<&'t mut DeTable<'i>> {
    let DeValue::Table(table) = item.get_mut() else {
        return None;
    };
    has_name(table, name).then_some(table)
}

fn has_name(table: &DeTable<'_>, name: &str) -> bool {
    let node = entry(table, "name").map(|(_, node)| node.get_ref());
    matches!(node, Some(DeValue::String(text)) if text == name)
}

fn put<'i>(table: &mut DeTable<'i>, key: &str, value: Node<'i>) {
    table.remove(key);
    table.insert(Spanned::new(value.span(), key.to_owned().into()), value);
}

/// What [`remove_at`] took out.
pub(crate) struct Removed<'i> {
    /// Keys from the root down to it; a list's element has the path of the list.
    pub path: Vec<String>,
    pub value: DeValue<'i>,
}

/// Removes the innermost entry or list element that lies at `span`, key or value.
pub(crate) fn remove_at<'i>(table: &mut DeTable<'i>, span: &Range<usize>) -> Option<Removed<'i>> {
    let mut path = Vec::new();
    let value = remove_in_table(table, span, &mut path)?;
    Some(Removed { path, value })
}

fn remove_in_table<'i>(
    table: &mut DeTable<'i>,
    span: &Range<usize>,
    path: &mut Vec<String>,
) -> Option<DeValue<'i>> {
    for (key, value) in table.iter_mut() {
        path.push(key.get_ref().to_string());
        let removed = match value.get_mut() {
            DeValue::Table(inner) => remove_in_table(inner, span, path),
            DeValue::Array(items) => remove_in_list(items, span, path),
            _ => None,
        };
        if removed.is_some() {
            return removed;
        }
        path.pop();
    }
    let name = table
        .iter()
        .find(|(key, value)| key.span() == *span || value.span() == *span)
        .map(|(key, _)| key.get_ref().to_string())?;
    let removed = table.remove(name.as_str()).map(Spanned::into_inner);
    path.push(name);
    removed
}

fn remove_in_list<'i>(
    items: &mut DeArray<'i>,
    span: &Range<usize>,
    path: &mut Vec<String>,
) -> Option<DeValue<'i>> {
    for item in items.iter_mut() {
        let removed = match item.get_mut() {
            DeValue::Table(inner) => remove_in_table(inner, span, path),
            DeValue::Array(items) => remove_in_list(items, span, path),
            _ => None,
        };
        if removed.is_some() {
            return removed;
        }
    }
    let removed = items
        .iter()
        .find(|item| item.span() == *span)?
        .get_ref()
        .clone();
    *items = items
        .iter()
        .filter(|item| item.span() != *span)
        .cloned()
        .collect();
    Some(removed)
}

/// A value as text: strings bare, all else as in TOML.
pub(crate) fn text(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| text(item.get_ref())).collect();
            format!("[{}]", items.join(", "))
        }
        DeValue::Table(inner) => {
            let entries: Vec<String> = in_file_order(inner)
                .into_iter()
                .map(|(key, _, value)| format!("{key} = {}", text(value.get_ref())))
                .collect();
            format!("{{ {} }}", entries.join(", "))
        }
    }
}

/// What kind of value it is, in TOML's words.
pub(crate) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
