//! From the parsed document to typed values. Every key and every type is checked against the JSON Schema and the types
//! of [`crate::schema`], and a mistake does not hide the next one: what is wrong is reported, removed, and the reading
//! goes on.

use std::ops::Range;

use serde::de::DeserializeOwned;
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::suggest;
use crate::tree::{self, Removed};

/// Reports unknown and missing keys. Removes the unknown ones.
pub(crate) fn check(schema: &Value, document: &mut DeTable<'_>, errors: &mut Diagnostics) {
    check_table(schema, document, &(0..0), "", errors);
}

/// The same for some of the document's sections, where those that are not there are not missing.
pub(crate) fn check_present(schema: &Value, sections: &mut DeTable<'_>, errors: &mut Diagnostics) {
    for (key, value) in sections.iter_mut() {
        let span = value.span();
        let name = key.get_ref().as_ref();
        let schema = &schema["properties"][name];
        match value.get_mut() {
            DeValue::Table(inner) => check_table(schema, inner, &span, name, errors),
            DeValue::Array(items) => check_tables(schema, items, name, errors),
            _ => {}
        }
    }
}

/// Checks the tables of a list.
fn check_tables(schema: &Value, items: &mut DeArray<'_>, path: &str, errors: &mut Diagnostics) {
    for item in items.iter_mut() {
        let span = item.span();
        if let DeValue::Table(inner) = item.get_mut() {
            check_table(&schema["items"], inner, &span, path, errors);
        }
    }
}

fn check_table(
    schema: &Value,
    table: &mut DeTable<'_>,
    span: &Range<usize>,
    path: &str,
    errors: &mut Diagnostics,
) {
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    if schema["additionalProperties"] == Value::Bool(false) {
        let unknown: Vec<_> = table
            .keys()
            .filter(|key| !properties.contains_key(key.get_ref().as_ref()))
            .cloned()
            .collect();
        for key in unknown {
            table.remove(key.get_ref().as_ref());
            errors.push(unknown_key(
                key.get_ref(),
                key.span(),
                path,
                properties.keys(),
            ));
        }
    }
    for required in schema["required"].as_array().into_iter().flatten() {
        let Some(name) = required.as_str() else {
            continue;
        };
        if tree::entry(table, name).is_none() {
            let of = if path.is_empty() {
                "the scenario".to_owned()
            } else {
                format!("`{path}`")
            };
            errors.push(
                Diagnostic::new(span.clone(), format!("{of} has no `{name}`"))
                    .help(how_to_write(name, &properties[name])),
            );
        }
    }
    for (key, value) in table.iter_mut() {
        let name = key.get_ref().to_string();
        let Some(schema) = properties.get(&name) else {
            continue;
        };
        let path = join(path, &name);
        let span = value.span();
        match value.get_mut() {
            DeValue::Table(inner) => check_table(schema, inner, &span, &path, errors),
            DeValue::Array(items) => check_tables(schema, items, &path, errors),
            _ => {}
        }
    }
}

fn unknown_key<'a>(
    key: &str,
    span: Range<usize>,
    path: &str,
    known: impl Iterator<Item = &'a String>,
) -> Diagnostic {
    let known: Vec<&str> = known.map(String::as_str).collect();
    let place = if path.is_empty() {
        "a scenario".to_owned()
    } else {
        format!("`{path}`")
    };
    let diagnostic = Diagnostic::new(span, format!("{place} has no key `{key}`"));
    match suggest::not_yet(&join(path, key)) {
        Some(why) => diagnostic.help(why),
        None => diagnostic.help(suggest::instead(key, known, '`')),
    }
}

/// Reads `table` as a `T`; `None` where not even the sound part of it makes one.
pub(crate) fn read<T: DeserializeOwned>(
    schema: &Value,
    table: &DeTable<'_>,
    errors: &mut Diagnostics,
) -> Option<T> {
    let mut table = table.clone();
    loop {
        let error = match T::deserialize(Deserializer::from(Spanned::new(0..0, table.clone()))) {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let at = error.span().unwrap_or(0..0);
        let removed = tree::remove_at(&mut table, &at);
        errors.push(wrong_value(schema, at, error.message(), removed.as_ref()));
        if removed.is_none() || errors.is_full() {
            return None;
        }
    }
}

/// An error of serde's, said with what the schema knows of the place.
fn wrong_value(
    schema: &Value,
    at: Range<usize>,
    message: &str,
    removed: Option<&Removed<'_>>,
) -> Diagnostic {
    let mut lines = message.lines();
    let mut diagnostic = Diagnostic::new(at, lines.next().unwrap_or("wrong value"));
    diagnostic.help.extend(lines.map(str::to_owned));
    let place = removed.and_then(|removed| {
        let name = removed.path.last()?;
        Some((removed, name, node(schema, &removed.path)?))
    });
    let Some((Removed { path, value }, name, schema)) = place else {
        return diagnostic;
    };
    let path = path.join(".");
    let words = words(schema);
    let is = match value {
        DeValue::String(text) => format!("`{text}`"),
        DeValue::Integer(number) if schema["type"] == "integer" => number.to_string(),
        other => tree::kind(other).to_owned(),
    };
    if !words.is_empty() || !has_type(value, &schema["type"]) || schema["type"] == "integer" {
        diagnostic.title = format!("`{path}` cannot be {is}");
    } else {
        diagnostic.title = format!("`{path}`: {}", diagnostic.title);
    }
    if let Some(meant) = suggest::nearest(&tree::text(value), words.iter().map(String::as_str)) {
        return diagnostic.help(format!("did you mean \"{meant}\"?"));
    }
    if diagnostic.help.is_empty() {
        diagnostic.help(how_to_write(name, schema))
    } else {
        diagnostic
    }
}

/// Whether a value is of the type that the schema asks for by name; also where it names none, or where serde takes
/// the value for the sake of a better error (a number in place of a quantity).
fn has_type(value: &DeValue<'_>, name: &Value) -> bool {
    match name.as_str() {
        Some("object") => matches!(value, DeValue::Table(_)),
        Some("array") => matches!(value, DeValue::Array(_)),
        Some("boolean") => matches!(value, DeValue::Boolean(_)),
        Some("integer") => matches!(value, DeValue::Integer(_)),
        Some("string") => matches!(
            value,
            DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_)
        ),
        _ => true,
    }
}

/// The part of the schema that describes what lies at `path`.
pub(crate) fn node<'s>(schema: &'s Value, path: &[impl AsRef<str>]) -> Option<&'s Value> {
    path.iter().try_fold(schema, |schema, key| {
        let schema = schema.get("items").unwrap_or(schema);
        schema.get("properties")?.get(key.as_ref())
    })
}

/// The keys of the table that `schema` describes.
pub(crate) fn keys_of(schema: &Value) -> Vec<&str> {
    schema["properties"]
        .as_object()
        .map(|properties| properties.keys().map(String::as_str).collect())
        .unwrap_or_default()
}

/// One line on how to write `name = …`, from the schema's examples or the words that it allows.
fn how_to_write(name: &str, schema: &Value) -> String {
    let words = words(schema);
    if !words.is_empty() {
        let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
        return format!("write {name} = {}", quoted.join(" or "));
    }
    let examples: Vec<String> = schema["examples"]
        .as_array()
        .into_iter()
        .flatten()
        .map(toml_text)
        .collect();
    if !examples.is_empty() {
        return format!("write for example {name} = {}", examples.join(" or "));
    }
    match schema["type"].as_str() {
        Some("array") => format!("write at least one table [[{name}]]"),
        Some("object") => format!("write a table: {name} = {{ … }}"),
        _ => schema["description"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
    }
}

/// The words that an enumeration allows.
fn words(schema: &Value) -> Vec<String> {
    let constants = schema["oneOf"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|option| option.get("const"));
    schema["enum"]
        .as_array()
        .into_iter()
        .flatten()
        .chain(constants)
        .filter_map(|word| word.as_str().map(str::to_owned))
        .collect()
}

fn toml_text(value: &Value) -> String {
    match value {
        Value::Object(entries) => {
            let entries: Vec<String> = entries
                .iter()
                .map(|(key, value)| format!("{key} = {}", toml_text(value)))
                .collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(toml_text).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}
