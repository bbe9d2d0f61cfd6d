//! Errors and warnings that point at the place in the scenario file.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// One thing that is wrong, where it is, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Bytes of the file that it is about.
    pub span: Range<usize>,
    /// What is wrong, in one line.
    pub title: String,
    /// What stands beside the underlined text; may be empty.
    pub label: String,
    /// What to do about it, one entry a line.
    pub help: Vec<String>,
}

impl Diagnostic {
    pub(crate) fn new(span: Range<usize>, title: impl Into<String>) -> Self {
        Self {
            span,
            title: title.into(),
            label: String::new(),
            help: Vec::new(),
        }
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }
}

/// How grave a diagnostic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Nothing can be measured.
    Error,
    /// Something will be missing or different from what one might think.
    Warning,
    /// The file is sound, and this host lacks something.
    NotTestable,
}

/// A scenario file that cannot be used. Its `Display` is the plain rendering.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.render(false))]
pub struct ScenarioError {
    /// The file's name, as the user gave it.
    pub file_name: String,
    /// Its text.
    pub source_text: String,
    /// All that is wrong with it, in the order of the file; at least one.
    pub diagnostics: Vec<Diagnostic>,
}

impl ScenarioError {
    /// File, line, column, the offending text underlined and what to write instead, for each diagnostic; with ANSI
    /// colours where `color` is set.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        render(
            &self.file_name,
            &self.source_text,
            Severity::Error,
            &self.diagnostics,
            color,
        )
    }
}

/// Renders diagnostics over the file that they are about; with ANSI colours where `color` is set.
#[must_use]
pub fn render(
    file_name: &str,
    source_text: &str,
    severity: Severity,
    diagnostics: &[Diagnostic],
    color: bool,
) -> String {
    let renderer = if color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let level = match severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::NotTestable => Level::WARNING.with_name("not testable here"),
    };
    let rendered: Vec<String> = diagnostics
        .iter()
        .map(|diagnostic| {
            let mark = AnnotationKind::Primary.span(within(source_text, &diagnostic.span));
            let mark = if diagnostic.label.is_empty() {
                mark
            } else {
                mark.label(diagnostic.label.as_str())
            };
            let group: Group<'_> = level
                .clone()
                .primary_title(diagnostic.title.as_str())
                .element(
                    Snippet::source(source_text)
                        .path(file_name)
                        .annotation(mark),
                )
                .elements(
                    diagnostic
                        .help
                        .iter()
                        .map(|help| Level::HELP.message(help.as_str())),
                );
            renderer.render(&[group])
        })
        .collect();
    rendered.join("\n\n")
}

/// The span, narrowed to what the text has and widened to whole characters.
fn within(text: &str, span: &Range<usize>) -> Range<usize> {
    let mut start = span.start.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let mut end = span.end.clamp(start, text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    start..end
}

/// Collects diagnostics, each once.
#[derive(Debug, Default)]
pub(crate) struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// More than this would scroll the first ones off the screen.
    const MOST: usize = 20;

    /// Adds one, unless the same was said of the same place before (by another combination of the matrix).
    pub fn push(&mut self, diagnostic: Diagnostic) {
        let known = self
            .0
            .iter()
            .any(|other| other.span == diagnostic.span && other.title == diagnostic.title);
        if !known && !self.is_full() {
            self.0.push(diagnostic);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn extend(&mut self, diagnostics: impl IntoIterator<Item = Diagnostic>) {
        diagnostics
            .into_iter()
            .for_each(|diagnostic| self.push(diagnostic));
    }

    pub fn is_full(&self) -> bool {
        self.0.len() >= Self::MOST
    }

    /// In the order of the file.
    pub fn into_sorted(mut self) -> Vec<Diagnostic> {
        self.0.sort_by_key(|diagnostic| diagnostic.span.start);
        self.0
    }
}
