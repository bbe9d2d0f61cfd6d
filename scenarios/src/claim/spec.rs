//! `[claim]` as a user writes it, and what it means.

use std::collections::BTreeMap;
use std::ops::Range;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::de::DeTable;

use super::{Bound, Claim, Compare, Form, MetricClaim, Premise, What};
use crate::check::{out_of_range, span, value};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::experiment::{Experiment, Unit};
use crate::plan::{Cell, ClaimOver};
use crate::schema::Given;
use crate::suggest;
use crate::tree;
use crate::units::{Percent, parse_duration, parse_percent, parse_size, percent_text};
use crate::values::FigureSpec;

/// What is claimed. What decides is one of `ratio` (with `over`), `compare`, `metric` and `not-testable`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct ClaimSpec {
    /// The claim in the words in which it was published. Default: none.
    #[schemars(with = "String", example = &"CPU-bound work keeps 97 % of bare metal.")]
    words: Given<String>,
    /// Who published it, and where. Default: none.
    #[schemars(with = "String", example = &"R. Bhargava et al. (2008), ASPLOS XIII")]
    source: Given<String>,
    /// Why the threshold is what it is. Default: none.
    #[schemars(with = "String", example = &"The smallest gain that the paper reports.")]
    why: Given<String>,
    /// What its words take for granted of the host; on a host without, it is not testable. Default: nothing.
    #[schemars(with = "Premise")]
    needs: Given<Premise>,
    /// Guest performance as a share of native, at least. Default: 97 %.
    #[schemars(with = "Percent", example = &"97%")]
    ratio: Given<Percent>,
    /// Which cells decide: those with CPU-bound workloads, with memory-bound ones, or all. Default: all.
    #[schemars(with = "ClaimOver")]
    over: Given<ClaimOver>,
    /// Whether each workload that decides is judged by itself too. Default: false.
    #[schemars(with = "bool", example = true)]
    each: Given<bool>,
    /// Decides by guests that differ in some parameters alone, one against the other. Default: none.
    #[schemars(with = "CompareSpec")]
    compare: Given<CompareSpec>,
    /// Decides by the metric of an experiment. Default: none.
    #[schemars(with = "MetricSpec")]
    metric: Given<MetricSpec>,
    /// Why nothing decides yet; such a scenario needs no workload. Default: none.
    #[schemars(with = "String", example = &"Assigned devices are not measured yet.")]
    not_testable: Given<String>,
}

/// Guests that differ in some parameters alone, one against the other. The figure is the quotient of the first over the
/// second, held against one of `at-least`, `at-most` and `within`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct CompareSpec {
    /// Parameters of the first by their paths, as in `[matrix]`.
    #[schemars(with = "BTreeMap<String, serde_json::Value>", example = backing("2M"))]
    #[expect(dead_code, reason = "`parameters` reads it with its places")]
    of: Given<BTreeMap<String, IgnoredAny>>,
    /// Parameters of the second.
    #[schemars(with = "BTreeMap<String, serde_json::Value>", example = backing("4k"))]
    #[expect(dead_code, reason = "`parameters` reads it with its places")]
    against: Given<BTreeMap<String, IgnoredAny>>,
    /// What of them is compared.
    #[schemars(with = "What")]
    what: Given<What>,
    /// The quotient is this much or more. Default: no such bound.
    #[serde(default)]
    #[schemars(with = "Percent", example = &"150%")]
    at_least: Given<Percent>,
    /// The quotient is this much or less. Default: no such bound.
    #[serde(default)]
    #[schemars(with = "Percent", example = &"60%")]
    at_most: Given<Percent>,
    /// The quotient is 100 %, give or take this: a test of equivalence. Default: no such bound.
    #[serde(default)]
    #[schemars(with = "Percent", example = &"1%")]
    within: Given<Percent>,
}

/// The metric of an experiment, held against one of `at-least`, `at-most` and `within`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct MetricSpec {
    /// The experiment: its kind for all of this kind, or its label for one, such as `boot guests=8`.
    #[schemars(with = "String", example = &"boot")]
    experiment: Given<String>,
    /// The metric's name.
    #[schemars(with = "String", example = &"vmm-memory")]
    name: Given<String>,
    /// The metric is this much or more, in its own unit. Default: no such bound.
    #[serde(default)]
    #[schemars(with = "FigureSpec")]
    at_least: Given<FigureSpec>,
    /// The metric is this much or less. Default: no such bound.
    #[serde(default)]
    #[schemars(with = "FigureSpec")]
    at_most: Given<FigureSpec>,
    /// The metric is 1, give or take this: a test of equivalence. Default: no such bound.
    #[serde(default)]
    #[schemars(with = "Percent", example = &"1%")]
    within: Given<Percent>,
}

fn backing(of: &str) -> BTreeMap<&'static str, String> {
    BTreeMap::from([("guest.backing", of.to_owned())])
}

impl ClaimSpec {
    /// Whether the scenario says nothing of a claim.
    fn is_empty(&self) -> bool {
        let texts = [&self.words, &self.source, &self.why, &self.not_testable];
        texts.into_iter().all(Option::is_none)
            && self.needs.is_none()
            && self.ratio.is_none()
            && self.over.is_none()
            && self.each.is_none()
            && self.compare.is_none()
            && self.metric.is_none()
    }

    /// Whether the scenario says that nothing decides its claim yet.
    pub fn is_not_testable(&self) -> bool {
        self.not_testable.is_some()
    }
}

/// Resolves the claim against what is measured.
pub(crate) fn resolve(
    spec: &ClaimSpec,
    document: &DeTable<'_>,
    cells: &[Cell],
    experiments: &[Experiment],
    errors: &mut Diagnostics,
) -> Claim {
    let text = |given: &Given<String>| {
        given
            .as_ref()
            .map_or(String::new(), |text| text.get_ref().trim().to_owned())
    };
    one_form(spec, errors);
    Claim {
        assumed: spec.is_empty(),
        ratio: ratio(&spec.ratio, errors),
        over: value(&spec.over, ClaimOver::All),
        each: value(&spec.each, false),
        words: text(&spec.words),
        source: text(&spec.source),
        why: text(&spec.why),
        needs: spec.needs.as_ref().map(|needs| *needs.get_ref()),
        form: form(spec, document, cells, experiments, errors).unwrap_or_default(),
    }
}

/// One thing decides, not two.
fn one_form(spec: &ClaimSpec, errors: &mut Diagnostics) {
    let share = [
        ("ratio", span(&spec.ratio)),
        ("over", span(&spec.over)),
        ("each", span(&spec.each)),
    ];
    let share = share.into_iter().find(|(_, at)| at.is_some());
    let forms = [
        share.unwrap_or(("ratio", None)),
        ("compare", span(&spec.compare)),
        ("metric", span(&spec.metric)),
        ("not-testable", span(&spec.not_testable)),
    ];
    let mut given = forms.into_iter().filter_map(|(name, at)| Some((name, at?)));
    let Some((first, _)) = given.next() else {
        return;
    };
    for (other, at) in given {
        let title = format!("`{first}` and `{other}` cannot both decide a claim");
        errors.push(Diagnostic::new(at, title).help("keep one, or write a scenario for each"));
    }
}

fn form(
    spec: &ClaimSpec,
    document: &DeTable<'_>,
    cells: &[Cell],
    experiments: &[Experiment],
    errors: &mut Diagnostics,
) -> Option<Form> {
    if let Some(compare) = &spec.compare {
        let table = tree::table(tree::table(document, "claim")?, "compare")?;
        return compared(compare.get_ref(), compare.span(), table, cells, errors);
    }
    if let Some(metric) = &spec.metric {
        return measured(metric.get_ref(), metric.span(), experiments, errors);
    }
    let reason = spec.not_testable.as_ref()?;
    if reason.get_ref().trim().is_empty() {
        errors.push(
            Diagnostic::new(reason.span(), "this says nothing of why").help(
                "write for example not-testable = \"Assigned devices are not measured yet.\"",
            ),
        );
    }
    Some(Form::NotTestable(reason.get_ref().trim().to_owned()))
}

fn compared(
    spec: &CompareSpec,
    at: Range<usize>,
    table: &DeTable<'_>,
    cells: &[Cell],
    errors: &mut Diagnostics,
) -> Option<Form> {
    let bound = bound(
        &at,
        [
            percent(&spec.at_least).map(|(at, share)| (at, Bound::AtLeast(share))),
            percent(&spec.at_most).map(|(at, share)| (at, Bound::AtMost(share))),
            within(&spec.within, errors),
        ],
        "at-least = \"150%\", at-most = \"60%\" or within = \"1%\"",
        errors,
    );
    let (of_at, of) = parameters(table, "of")?;
    let (against_at, against) = parameters(table, "against")?;
    let compare = Compare {
        of,
        against,
        what: *spec.what.as_ref()?.get_ref(),
        bound: bound?,
    };
    if compare.of == compare.against {
        errors.push(
            Diagnostic::new(against_at, "`of` and `against` are the same guests")
                .help("write parameters that differ"),
        );
        return None;
    }
    if compare.pairs(cells).is_empty() {
        errors.push(no_pair(&compare, of_at, against_at, cells));
    }
    if let Some(what) = spec
        .what
        .as_ref()
        .filter(|what| what.get_ref().quantile().is_some())
        && let Some((cell, _)) = compare
            .pairs(cells)
            .into_iter()
            .find(|(cell, _)| !times_each(cell))
    {
        let title = format!("`{}` does not time each operation", cell.workload.name);
        errors.push(
            Diagnostic::new(what.span(), title)
                .help("compare \"rate\" or \"time\", or measure a workload of latencies"),
        );
    }
    Some(Form::Compare(compare))
}

/// Whether the cell's workload has single latencies.
fn times_each(cell: &Cell) -> bool {
    vtax_workloads::find(&cell.workload.name).is_some_and(|(_, workload)| workload.latencies)
}

/// Why no two cells differ as the claim wants.
fn no_pair(
    compare: &Compare,
    of_at: Range<usize>,
    against_at: Range<usize>,
    cells: &[Cell],
) -> Diagnostic {
    let sides = [(&compare.of, of_at.clone()), (&compare.against, against_at)];
    for (side, at) in sides {
        for (key, value) in side {
            let mut known = cells.iter().filter_map(|cell| cell.parameters.get(key));
            if known.clone().any(|known| known == value) {
                continue;
            }
            let title = format!("no cell has {key} = {value}");
            let diagnostic = Diagnostic::new(at, title);
            return match known.next() {
                Some(_) => {
                    let mut values: Vec<&str> = cells
                        .iter()
                        .filter_map(|cell| cell.parameters.get(key).map(String::as_str))
                        .collect();
                    values.sort_unstable();
                    values.dedup();
                    diagnostic.help(format!("write {}", suggest::list(values)))
                }
                None => diagnostic.help(format!("vary it: write \"{key}\" = [ … ] in [matrix]")),
            };
        }
    }
    Diagnostic::new(of_at, "no two cells differ in these parameters alone").help(
        "`vtax scenario explain` lists the cells without a claim; write parameters of two of them",
    )
}

/// The parameters of one side and their place.
fn parameters(table: &DeTable<'_>, side: &str) -> Option<(Range<usize>, BTreeMap<String, String>)> {
    let inner = tree::table(table, side)?;
    let at = tree::entry(table, side)?.1.span();
    let parameters = crate::matrix::leaves(inner)
        .into_iter()
        .map(|(path, _, value)| {
            // A cell's parameters have a workload's own by their bare names.
            let name = match path.as_slice() {
                [first, _, param] if first == "workload" => param.clone(),
                _ => path.join("."),
            };
            (name, tree::text(value.get_ref()))
        })
        .collect();
    Some((at, parameters))
}

fn measured(
    spec: &MetricSpec,
    at: Range<usize>,
    experiments: &[Experiment],
    errors: &mut Diagnostics,
) -> Option<Form> {
    let wanted = spec.experiment.as_ref()?;
    let text = wanted.get_ref().as_str();
    let chosen: Vec<&Experiment> = experiments
        .iter()
        .filter(|it| it.label == text || it.kind.entry().name == text)
        .collect();
    let Some(first) = chosen.first() else {
        let labels = || experiments.iter().map(|it| it.label.as_str());
        let title = format!("this scenario has no experiment `{text}`");
        let diagnostic = Diagnostic::new(wanted.span(), title);
        errors.push(match suggest::nearest(text, labels()) {
            Some(meant) => diagnostic.help(format!("did you mean \"{meant}\"?")),
            None if experiments.is_empty() => {
                diagnostic.help("write a table [[experiment]] with kind = \"boot\", for example")
            }
            None => diagnostic.help(format!("write {}", suggest::list(labels()))),
        });
        return None;
    };
    let name = spec.name.as_ref()?;
    let entry = first.kind.entry();
    let Some(metric) = entry.metrics.iter().find(|it| it.name == name.get_ref()) else {
        let names = || entry.metrics.iter().map(|it| it.name);
        let title = format!("`{}` has no metric `{}`", entry.name, name.get_ref());
        let diagnostic = Diagnostic::new(name.span(), title);
        errors.push(match suggest::nearest(name.get_ref(), names()) {
            Some(meant) => diagnostic.help(format!("did you mean \"{meant}\"?")),
            None => diagnostic.help(format!("write {}", suggest::list(names()))),
        });
        return None;
    };
    let least = figure(&spec.at_least, metric.unit, errors);
    let most = figure(&spec.at_most, metric.unit, errors);
    let bound = bound(
        &at,
        [
            least.map(|(at, figure)| (at, Bound::AtLeast(figure))),
            most.map(|(at, figure)| (at, Bound::AtMost(figure))),
            within(&spec.within, errors),
        ],
        &format!("at-most = {}", metric.unit.example()),
        errors,
    )?;
    Some(Form::Metric(MetricClaim {
        experiments: chosen.iter().map(|it| it.id).collect(),
        name: metric.name.to_owned(),
        bound,
    }))
}

/// A figure in the metric's unit, and its place.
fn figure(
    spec: &Given<FigureSpec>,
    unit: Unit,
    errors: &mut Diagnostics,
) -> Option<(Range<usize>, f64)> {
    let spec = spec.as_ref()?;
    let text = &spec.get_ref().0;
    let parsed = match unit {
        Unit::Nanos => parse_duration(text).map(|nanos| nanos as f64),
        Unit::Bytes => parse_size(text).map(|bytes| bytes as f64),
        Unit::Share => parse_percent(text),
        Unit::Number | Unit::Watts => {
            let watts = text.strip_suffix('W').filter(|_| unit == Unit::Watts);
            let number = watts.unwrap_or(text).trim_end().parse();
            let number = number.ok().filter(|number: &f64| number.is_finite());
            let Some(number) = number else {
                let title = format!("`{text}` is no number");
                let help = format!("write for example {}", unit.example());
                errors.push(Diagnostic::new(spec.span(), title).help(help));
                return Some((spec.span(), 0.0));
            };
            Ok(number)
        }
    };
    match parsed {
        Ok(figure) => Some((spec.span(), figure)),
        Err(error) => {
            errors.push(Diagnostic::new(spec.span(), error.to_string()).help(error.advice()));
            Some((spec.span(), 0.0))
        }
    }
}

fn percent(spec: &Given<Percent>) -> Option<(Range<usize>, f64)> {
    spec.as_ref().map(|spec| (spec.span(), spec.get_ref().0))
}

fn within(spec: &Given<Percent>, errors: &mut Diagnostics) -> Option<(Range<usize>, Bound)> {
    let given = spec.as_ref()?;
    let share = given.get_ref().0;
    if !(0.0001..=0.5).contains(&share) {
        errors.push(out_of_range(
            given,
            "within",
            &percent_text(share),
            "0.01%",
            "50%",
        ));
    }
    Some((given.span(), Bound::Within(share)))
}

/// The one bound that is given.
fn bound(
    at: &Range<usize>,
    given: [Option<(Range<usize>, Bound)>; 3],
    write: &str,
    errors: &mut Diagnostics,
) -> Option<Bound> {
    let mut given = given.into_iter().flatten();
    let Some((_, bound)) = given.next() else {
        errors.push(
            Diagnostic::new(at.clone(), "this says nothing of what the figure must be")
                .help(format!("write {write}")),
        );
        return None;
    };
    if let Some((at, _)) = given.next() {
        errors.push(
            Diagnostic::new(at, "a claim has one bound")
                .help("keep one of `at-least`, `at-most` and `within`"),
        );
    }
    Some(bound)
}

fn ratio(spec: &Given<Percent>, errors: &mut Diagnostics) -> f64 {
    spec.as_ref().map_or(0.97, |ratio| {
        let share = ratio.get_ref().0;
        if !(0.01..=1.0).contains(&share) {
            errors.push(out_of_range(
                ratio,
                "ratio",
                &percent_text(share),
                "1%",
                "100%",
            ));
        }
        share
    })
}
