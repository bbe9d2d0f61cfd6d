//! The `[[workload]]` tables against the catalogue.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use vtax_workloads::{CATALOGUE, Param, ParamKind, Workload};

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::schema::parameter_text;
use crate::suggest;
use crate::tree::{self, Node};
use crate::units::{UnitError, parse_duration, parse_size};

/// A `[[workload]]` table.
pub(crate) struct Entry {
    /// Place of the name.
    pub span: Range<usize>,
    pub workload: &'static Workload,
    /// The parameters that are written there, each with one or more values.
    pub params: Vec<ParamValues>,
}

/// The values of one parameter.
pub(crate) struct ParamValues {
    /// Place of the key.
    pub span: Range<usize>,
    /// Position in [`Workload::params`].
    pub index: usize,
    pub values: Vec<Spanned<u64>>,
}

/// All entries that are sound, in the order of the file.
pub(crate) fn read(document: &DeTable<'_>, errors: &mut Diagnostics) -> Vec<Entry> {
    let Some((_, list)) = tree::entry(document, "workload") else {
        return Vec::new();
    };
    let DeValue::Array(items) = list.get_ref() else {
        return Vec::new();
    };
    if items.is_empty() {
        errors.push(
            Diagnostic::new(list.span(), "there is no workload to measure")
                .help("write at least one table [[workload]]"),
        );
    }
    items
        .iter()
        .filter_map(|item| match item.get_ref() {
            DeValue::Table(table) => read_entry(table, errors),
            _ => None,
        })
        .collect()
}

fn read_entry(table: &DeTable<'_>, errors: &mut Diagnostics) -> Option<Entry> {
    let (_, name) = tree::entry(table, "name")?;
    let DeValue::String(text) = name.get_ref() else {
        return None;
    };
    let Some((_, workload)) = vtax_workloads::find(text) else {
        errors.push(unknown_workload(text, name.span()));
        return None;
    };
    let params = tree::table(table, "params")
        .into_iter()
        .flat_map(tree::in_file_order)
        .filter_map(|(key, span, value)| {
            read_param(workload, key, span, value)
                .map_err(|error| errors.push(error))
                .ok()
        })
        .collect();
    Some(Entry {
        span: name.span(),
        workload,
        params,
    })
}

fn unknown_workload(name: &str, span: Range<usize>) -> Diagnostic {
    let names = || CATALOGUE.iter().map(|workload| workload.name);
    let diagnostic = Diagnostic::new(span, format!("there is no workload `{name}`"));
    match suggest::nearest(name, names()) {
        Some(meant) => diagnostic.help(format!("did you mean `{meant}`?")),
        None => diagnostic.help(format!("write {}", suggest::list(names()))),
    }
}

fn read_param(
    workload: &'static Workload,
    key: &str,
    span: Range<usize>,
    value: &Node<'_>,
) -> Result<ParamValues, Diagnostic> {
    let index = param_index(workload.name, workload.params, key, span.clone())?;
    Ok(ParamValues {
        span,
        index,
        values: param_values(&workload.params[index], value)?,
    })
}

/// One value, or a list of them.
pub(crate) fn param_values(
    param: &Param,
    node: &Node<'_>,
) -> Result<Vec<Spanned<u64>>, Diagnostic> {
    match node.get_ref() {
        DeValue::Array(items) if items.is_empty() => Err(no_values(param.name, node.span())),
        DeValue::Array(items) => items.iter().map(|item| param_value(param, item)).collect(),
        _ => Ok(vec![param_value(param, node)?]),
    }
}

pub(crate) fn no_values(key: &str, span: Range<usize>) -> Diagnostic {
    Diagnostic::new(
        span,
        format!("`{key}` has no values, so there would be no cells"),
    )
    .help(format!("write at least one value, or leave `{key}` out"))
}

/// The position of the parameter that `key` names, among those of a workload or an experiment.
pub(crate) fn param_index(
    owner: &str,
    params: &[Param],
    key: &str,
    span: Range<usize>,
) -> Result<usize, Diagnostic> {
    let names = || params.iter().map(|param| param.name);
    names().position(|name| name == key).ok_or_else(|| {
        let title = format!("`{owner}` has no parameter `{key}`");
        let diagnostic = Diagnostic::new(span, title);
        match suggest::nearest(key, names()) {
            Some(meant) => diagnostic.help(format!("did you mean `{meant}`?")),
            None if params.is_empty() => {
                diagnostic.help("leave it out: this workload has no parameters")
            }
            None => diagnostic.help(format!("write {}", suggest::list(names()))),
        }
    })
}

/// A parameter's value, checked.
pub(crate) fn param_value(param: &Param, node: &Node<'_>) -> Result<Spanned<u64>, Diagnostic> {
    let span = node.span();
    let value = match (param.kind, node.get_ref()) {
        (ParamKind::Bytes, DeValue::String(text)) => {
            parse_size(text).map_err(|error| unsound(param, &error, span.clone()))?
        }
        (ParamKind::Bytes, DeValue::Integer(number)) => {
            return Err(match parse_size(&number.to_string()) {
                Err(error) => unsound(param, &error, span),
                Ok(_) => wrong_kind(param, node),
            });
        }
        (ParamKind::Duration, DeValue::String(text)) => {
            parse_duration(text).map_err(|error| unsound(param, &error, span.clone()))?
        }
        (ParamKind::Duration, DeValue::Integer(number)) => {
            return Err(match parse_duration(&number.to_string()) {
                Err(error) => unsound(param, &error, span),
                Ok(_) => wrong_kind(param, node),
            });
        }
        (ParamKind::Count, DeValue::Integer(number)) => {
            u64::from_str_radix(number.as_str(), number.radix())
                .map_err(|_| out_of_range(param, &number.to_string(), span.clone()))?
        }
        (ParamKind::Choice(words), DeValue::String(text)) => {
            let index = words.iter().position(|word| word == text).ok_or_else(|| {
                let title = format!("`{}` cannot be `{text}`", param.name);
                let diagnostic = Diagnostic::new(span.clone(), title);
                match suggest::nearest(text, words.iter().copied()) {
                    Some(meant) => diagnostic.help(format!("did you mean \"{meant}\"?")),
                    None => {
                        diagnostic.help(format!("write {}", suggest::list(words.iter().copied())))
                    }
                }
            })?;
            index as u64
        }
        _ => return Err(wrong_kind(param, node)),
    };
    if !(param.min..=param.max).contains(&value) {
        return Err(out_of_range(param, &parameter_text(param, value), span));
    }
    Ok(Spanned::new(span, value))
}

fn unsound(param: &Param, error: &UnitError, span: Range<usize>) -> Diagnostic {
    Diagnostic::new(span, format!("`{}`: {error}", param.name)).help(error.advice())
}

fn wrong_kind(param: &Param, node: &Node<'_>) -> Diagnostic {
    let kind = tree::kind(node.get_ref());
    let default = parameter_text(param, param.default);
    let example = match param.kind {
        ParamKind::Count => default,
        ParamKind::Bytes | ParamKind::Duration | ParamKind::Choice(_) => format!("\"{default}\""),
    };
    Diagnostic::new(node.span(), format!("`{}` cannot be {kind}", param.name))
        .help(format!("write for example {} = {example}", param.name))
}

fn out_of_range(param: &Param, text: &str, span: Range<usize>) -> Diagnostic {
    let range = |value| parameter_text(param, value);
    Diagnostic::new(span, format!("`{}` cannot be {text}", param.name)).help(format!(
        "write a value from {} to {}",
        range(param.min),
        range(param.max)
    ))
}
