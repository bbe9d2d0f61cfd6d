//! What a setting does to the guest: guests that differ in one setting alone, one against the other.
//!
//! ```text
//! pairs of cells ──► Effect (rate, latency, CPU time) ──combined──► what a value does over all work
//! ```
//!
//! The native side is given the same setting as the guest, so that a share of native says nothing of it.

use vtax_scenarios::plan::{Plan, What};
use vtax_scenarios::settings::{Setting, SettingPair};

use crate::compare::{Measured, Quotient};
use crate::result::{Interval, SettingEffect};
use crate::stats::boot::Question;

/// What is compared of a pair, as far as it was measured.
const ASKED: [What; 5] = [What::Rate, What::P50, What::P99, What::P999, What::CpuTime];

/// What a value does to one cell's work, and how far that is known.
#[derive(Clone, Debug)]
pub(crate) struct Effect {
    pub result: SettingEffect,
    quotient: Quotient,
}

/// What a value does to all work that was measured with it: a fixed set.
#[derive(Clone, Debug)]
pub(crate) struct Combined<'e> {
    pub key: &'e str,
    pub value: &'e str,
    pub reference: &'e str,
    pub what: What,
    /// The geometric mean.
    pub ratio: Interval,
    /// The effects behind it, at least one.
    pub parts: Vec<&'e SettingEffect>,
}

/// The effect of every pair on all that was measured of both its cells. `cells` are those that were measured, in any order.
pub(crate) fn effects(plan: &Plan, cells: &[Measured<'_>]) -> Vec<Effect> {
    let settings = plan.settings();
    let of = |id: u32| cells.iter().find(|it| it.cell.id == id);
    plan.setting_pairs()
        .into_iter()
        .filter_map(|pair| {
            let setting = settings.get(pair.setting)?;
            Some((setting, pair, of(pair.cell.id)?, of(pair.reference.id)?))
        })
        .flat_map(|(setting, pair, cell, reference)| {
            let effect = move |what| effect(plan, setting, pair, (cell, reference), what);
            ASKED.into_iter().filter_map(effect).collect::<Vec<_>>()
        })
        .collect()
}

fn effect(
    plan: &Plan,
    setting: &Setting,
    pair: SettingPair<'_>,
    (cell, reference): (&Measured<'_>, &Measured<'_>),
    what: What,
) -> Option<Effect> {
    // How late a timer is says nothing of how much gets done.
    if what == What::Rate && Question::of(&pair.cell.workload.name) == Question::Compare {
        return None;
    }
    let quotient = Quotient::new(cell, reference, what).ok()?;
    let key = setting.key();
    let own: Vec<&str> = key.split(" + ").collect();
    let parameters = pair.cell.parameters.iter();
    let parameters = parameters.filter(|(name, _)| !own.contains(&name.as_str()));
    Some(Effect {
        result: SettingEffect {
            value: setting.value(plan, pair.cell),
            reference: setting.value(plan, pair.reference),
            workload: pair.cell.workload.name.clone(),
            parameters: parameters
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            what,
            ratio: quotient.interval(pair.cell.measure.confidence),
            per_vcpu: pair.cell.guest.vcpus != pair.reference.guest.vcpus,
            cell: pair.cell.id,
            reference_cell: pair.reference.id,
            key,
        },
        quotient,
    })
}

/// The effects of each value over all work, by what of it is compared, in the order of `effects`.
pub(crate) fn combined(effects: &[Effect]) -> Vec<Combined<'_>> {
    let mut groups: Vec<Vec<&Effect>> = Vec::new();
    let same = |one: &SettingEffect, other: &SettingEffect| {
        one.key == other.key
            && one.value == other.value
            && one.reference == other.reference
            && one.what == other.what
    };
    for effect in effects {
        let known = groups.iter_mut().find(|group| {
            let first = group.first();
            first.is_some_and(|first| same(&first.result, &effect.result))
        });
        match known {
            Some(group) => group.push(effect),
            None => groups.push(vec![effect]),
        }
    }
    groups
        .into_iter()
        .filter_map(|group| {
            let quotients: Vec<Quotient> = group.iter().map(|it| it.quotient).collect();
            let confidences = group.iter().map(|it| it.result.ratio.confidence);
            let first = &group.first()?.result;
            Some(Combined {
                key: &first.key,
                value: &first.value,
                reference: &first.reference,
                what: first.what,
                ratio: Quotient::combined(&quotients)?.interval(confidences.fold(0.0, f64::max)),
                parts: group.iter().map(|it| &it.result).collect(),
            })
        })
        .collect()
}

impl SettingEffect {
    /// Whether more of it is better: of a rate it is, of times it is not.
    #[must_use]
    pub fn more_is_better(&self) -> bool {
        self.what == What::Rate
    }
}
