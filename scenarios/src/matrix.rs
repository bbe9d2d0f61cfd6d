//! `[matrix]` and lists of parameters, read: the axes along which cells differ, and what to add and to leave out.
//! `combine` makes the cells' combinations of them.

use std::ops::Range;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use vtax_workloads::Workload;

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::keys;
use crate::neighbour::spec::TABLE;
use crate::schema::parameter_text;
use crate::suggest;
use crate::tree::{self, Node};
use crate::workload::{self, Entry};

/// The sections whose fields belong to a cell, so that they may vary.
pub(crate) const SECTIONS: [&str; 4] = ["guest", "baseline", "host", "measure"];

/// One field or parameter with the value that it takes in a combination.
#[derive(Clone)]
pub(crate) enum Assignment<'i> {
    /// A field of one of the [`SECTIONS`], or of a `[[neighbour]]`, which stands in the path by its name.
    Setting { path: Vec<String>, value: Node<'i> },
    /// A parameter of a workload.
    Param {
        workload: &'static Workload,
        index: usize,
        value: Spanned<u64>,
    },
}

impl Assignment<'_> {
    /// As it appears among a cell's parameters: a path for a field, the bare name for a workload's own parameter.
    pub fn key(&self) -> String {
        match self {
            Self::Setting { path, .. } => path.join("."),
            Self::Param {
                workload, index, ..
            } => workload.params[*index].name.to_owned(),
        }
    }

    /// The value as the user writes it.
    pub fn text(&self) -> String {
        match self {
            Self::Setting { value, .. } => tree::text(value.get_ref()),
            Self::Param {
                workload,
                index,
                value,
            } => parameter_text(&workload.params[*index], *value.get_ref()),
        }
    }

    /// Whether it can be part of a cell with this workload.
    pub fn suits(&self, entry: &Entry) -> bool {
        match self {
            Self::Setting { .. } => true,
            Self::Param { workload, .. } => workload.name == entry.workload.name,
        }
    }

    /// Whether both give a value to the same field or parameter.
    pub fn same_target(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Setting { path: a, .. }, Self::Setting { path: b, .. }) => a == b,
            (
                Self::Param {
                    workload: a,
                    index: i,
                    ..
                },
                Self::Param {
                    workload: b,
                    index: j,
                    ..
                },
            ) => a.name == b.name && i == j,
            _ => false,
        }
    }
}

/// One field or parameter with all the values that it takes.
pub(crate) struct Axis<'i> {
    /// Place of the key.
    pub span: Range<usize>,
    /// At least one.
    pub values: Vec<Assignment<'i>>,
}

/// An `include` or `exclude` table.
pub(crate) struct Selection<'i> {
    pub span: Range<usize>,
    /// The workload that it is about; all, where it names none.
    pub workload: Option<String>,
    pub assignments: Vec<Assignment<'i>>,
}

/// `[matrix]`, read.
#[derive(Default)]
pub(crate) struct Matrix<'i> {
    pub axes: Vec<Axis<'i>>,
    pub include: Vec<Selection<'i>>,
    pub exclude: Vec<Selection<'i>>,
}

impl Selection<'_> {
    /// Whether it is about cells with this workload.
    pub fn suits(&self, entry: &Entry) -> bool {
        self.workload
            .as_deref()
            .is_none_or(|name| name == entry.workload.name)
            && self.assignments.iter().all(|given| given.suits(entry))
    }
}

/// Reads `[matrix]`; what is wrong in it is reported and left out.
pub(crate) fn read<'i>(
    document: &DeTable<'i>,
    schema: &Value,
    entries: &[Entry],
    neighbours: &[String],
    errors: &mut Diagnostics,
) -> Matrix<'i> {
    let mut matrix = Matrix::default();
    let Some((_, node)) = tree::entry(document, "matrix") else {
        return matrix;
    };
    let DeValue::Table(table) = node.get_ref() else {
        errors.push(
            Diagnostic::new(node.span(), "`matrix` must be a table").help(
                "write [matrix], and under it for example \"guest.backing\" = [\"4k\", \"2M\"]",
            ),
        );
        return matrix;
    };
    let reader = Reader {
        schema,
        entries,
        neighbours,
    };
    for (path, span, value) in leaves(table) {
        match path.as_slice() {
            [key] if key == "include" => {
                matrix.include = reader.selections(key, value, errors);
            }
            [key] if key == "exclude" => {
                matrix.exclude = reader.selections(key, value, errors);
            }
            _ => match reader.axis(&path, span, value) {
                Ok(axis) => matrix.axes.push(axis),
                Err(error) => errors.push(error),
            },
        }
    }
    matrix
}

struct Reader<'r> {
    schema: &'r Value,
    entries: &'r [Entry],
    /// Their names.
    neighbours: &'r [String],
}

impl Reader<'_> {
    fn axis<'i>(
        &self,
        path: &[String],
        span: Range<usize>,
        node: &Node<'i>,
    ) -> Result<Axis<'i>, Diagnostic> {
        let name = path.join(".");
        let DeValue::Array(items) = node.get_ref() else {
            let text = tree::text(node.get_ref());
            self.assignment(path, span, node)?;
            return Err(
                Diagnostic::new(node.span(), format!("`{name}` must be a list of values")).help(
                    format!("write \"{name}\" = [{}]", quoted(node.get_ref(), &text)),
                ),
            );
        };
        if items.is_empty() {
            return Err(workload::no_values(&name, node.span()));
        }
        let values = items
            .iter()
            .map(|item| self.assignment(path, span.clone(), item))
            .collect::<Result<_, _>>()?;
        Ok(Axis { span, values })
    }

    fn selections<'i>(
        &self,
        key: &str,
        node: &Node<'i>,
        errors: &mut Diagnostics,
    ) -> Vec<Selection<'i>> {
        let wrong = |span| {
            Diagnostic::new(span, format!("`{key}` must be a list of tables"))
                .help(format!("write {key} = [{{ \"guest.backing\" = \"2M\" }}]"))
        };
        let DeValue::Array(items) = node.get_ref() else {
            errors.push(wrong(node.span()));
            return Vec::new();
        };
        let mut selections = Vec::new();
        for item in items.iter() {
            let DeValue::Table(table) = item.get_ref() else {
                errors.push(wrong(item.span()));
                continue;
            };
            match self.selection(table, item.span()) {
                Ok(selection) => selections.push(selection),
                Err(error) => errors.push(error),
            }
        }
        selections
    }

    fn selection<'i>(
        &self,
        table: &DeTable<'i>,
        span: Range<usize>,
    ) -> Result<Selection<'i>, Diagnostic> {
        let mut selection = Selection {
            span,
            workload: None,
            assignments: Vec::new(),
        };
        for (path, span, value) in leaves(table) {
            match (path.as_slice(), value.get_ref()) {
                ([key], DeValue::String(name)) if key == "workload" => {
                    self.workload(name, value.span())?;
                    selection.workload = Some(name.to_string());
                }
                _ => selection
                    .assignments
                    .push(self.assignment(&path, span, value)?),
            }
        }
        Ok(selection)
    }

    fn assignment<'i>(
        &self,
        path: &[String],
        span: Range<usize>,
        value: &Node<'i>,
    ) -> Result<Assignment<'i>, Diagnostic> {
        match path {
            [first, workload, param] if first == "workload" => {
                let workload = self.workload(workload, span.clone())?;
                let index = workload::param_index(workload.name, workload.params, param, span)?;
                Ok(Assignment::Param {
                    workload,
                    index,
                    value: workload::param_value(&workload.params[index], value)?,
                })
            }
            [section, name, field, ..] if section == TABLE && field != "name" => {
                self.neighbour(name, span.clone())?;
                if keys::node(self.schema, &[section, field]).is_none() {
                    return Err(self.unknown_axis(&path.join("."), span));
                }
                Ok(Assignment::Setting {
                    path: path.to_vec(),
                    value: value.clone(),
                })
            }
            [section, field, ..]
                if SECTIONS.contains(&section.as_str())
                    && (section != "measure" || field != "budget")
                    && keys::node(self.schema, path).is_some() =>
            {
                Ok(Assignment::Setting {
                    path: path.to_vec(),
                    value: value.clone(),
                })
            }
            _ => Err(self.unknown_axis(&path.join("."), span)),
        }
    }

    fn workload(&self, name: &str, span: Range<usize>) -> Result<&'static Workload, Diagnostic> {
        let names = || self.entries.iter().map(|entry| entry.workload.name);
        self.entries
            .iter()
            .find(|entry| entry.workload.name == name)
            .map(|entry| entry.workload)
            .ok_or_else(|| {
                let title = format!("no [[workload]] of this scenario is `{name}`");
                let diagnostic = Diagnostic::new(span, title);
                match suggest::nearest(name, names()) {
                    Some(meant) => diagnostic.help(format!("did you mean `{meant}`?")),
                    None => diagnostic.help(format!("write {}", suggest::list(names()))),
                }
            })
    }

    fn neighbour(&self, name: &str, span: Range<usize>) -> Result<(), Diagnostic> {
        let names = || self.neighbours.iter().map(String::as_str);
        if names().any(|other| other == name) {
            return Ok(());
        }
        let title = format!("no [[neighbour]] of this scenario is called `{name}`");
        let diagnostic = Diagnostic::new(span, title);
        Err(match suggest::nearest(name, names()) {
            Some(meant) => diagnostic.help(format!("did you mean `{meant}`?")),
            None if self.neighbours.is_empty() => {
                diagnostic.help("write a table [[neighbour]] first, with its work and its name")
            }
            None => diagnostic.help(format!("write {}", suggest::list(names()))),
        })
    }

    fn unknown_axis(&self, name: &str, span: Range<usize>) -> Diagnostic {
        let settings = SECTIONS.iter().flat_map(|section| {
            keys::node(self.schema, &[section])
                .map(keys::keys_of)
                .unwrap_or_default()
                .into_iter()
                .map(move |field| format!("{section}.{field}"))
        });
        let params = self.entries.iter().flat_map(|entry| {
            entry
                .workload
                .params
                .iter()
                .map(|param| format!("workload.{}.{}", entry.workload.name, param.name))
        });
        let fields = keys::node(self.schema, &[TABLE])
            .and_then(|list| list.get("items"))
            .map(keys::keys_of)
            .unwrap_or_default();
        let neighbours = self.neighbours.iter().flat_map(|name| {
            let fields = fields.iter().filter(|&&field| field != "name");
            fields.map(move |field| format!("{TABLE}.{name}.{field}"))
        });
        let known: Vec<String> = settings
            .chain(params)
            .chain(neighbours)
            .filter(|path| path != "measure.budget")
            .collect();
        let whole_run = [
            "schema",
            "name",
            "description",
            "seed",
            "claim",
            "measure.budget",
        ];
        if whole_run
            .iter()
            .any(|path| name == *path || name.starts_with(&format!("{path}.")))
        {
            return Diagnostic::new(span, format!("`{name}` cannot vary within a run"))
                .help("it holds for the whole run; write one scenario for each value");
        }
        let diagnostic = Diagnostic::new(span, format!("there is no field `{name}` to vary"));
        match suggest::not_yet(name) {
            Some(why) => diagnostic.help(why),
            None => {
                let known = known.iter().map(String::as_str);
                diagnostic.help(suggest::instead(name, known, '"'))
            }
        }
    }
}

fn quoted(value: &DeValue<'_>, text: &str) -> String {
    match value {
        DeValue::String(_) => format!("\"{text}\""),
        _ => text.to_owned(),
    }
}

/// The paths that a table of paths holds, with their values. A path may be written as one quoted key or as a dotted
/// one, which TOML reads as tables.
pub(crate) fn leaves<'t, 'i>(
    table: &'t DeTable<'i>,
) -> Vec<(Vec<String>, Range<usize>, &'t Node<'i>)> {
    let mut found = Vec::new();
    descend(table, &[], &mut found);
    found.sort_by_key(|(_, span, _)| span.start);
    found
}

fn descend<'t, 'i>(
    table: &'t DeTable<'i>,
    above: &[String],
    found: &mut Vec<(Vec<String>, Range<usize>, &'t Node<'i>)>,
) {
    for (key, span, value) in tree::in_file_order(table) {
        let path: Vec<String> = above
            .iter()
            .cloned()
            .chain(key.split('.').map(str::to_owned))
            .collect();
        let whole = match path[0].as_str() {
            "workload" | TABLE => 3,
            "include" | "exclude" => 1,
            _ => 2,
        };
        match value.get_ref() {
            DeValue::Table(inner) if path.len() < whole => descend(inner, &path, found),
            _ => found.push((path, span, value)),
        }
    }
}
