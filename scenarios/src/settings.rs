//! Settings: what the matrix varies of a guest and of what is around it, as opposed to a workload's own parameters; and the
//! pairs of cells that differ in one of them alone.
//!
//! A cell that does not name a field has it as the scenario's tables set it, so that it can be the partner of one that does.

use std::collections::BTreeMap;

use crate::plan::{Cell, Form, Plan};

/// Sections whose fields change the guest or what is around it. `baseline` changes the native side alone.
const SECTIONS: [&str; 4] = ["guest", "host", "neighbour", "measure"];
/// The value of a field that the scenario leaves out altogether.
const DEFAULT: &str = "default";
/// Between the fields of a setting that has several.
const AND: &str = " + ";

/// A field of which the cells of a plan have several values, or several fields that never vary apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its path, such as `guest.pinning`; several where they always vary together.
    keys: Vec<String>,
    /// Its values in the order of the plan, at least two; of each one text for each key.
    values: Vec<Vec<String>>,
}

/// Two cells that differ in one setting alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SettingPair<'p> {
    /// Place of the setting in [`Plan::settings`].
    pub setting: usize,
    /// The cell with another value.
    pub cell: &'p Cell,
    /// The cell with the setting's first value.
    pub reference: &'p Cell,
}

impl Setting {
    /// Its path as one text: `guest.pinning`; several paths have ` + ` between them.
    #[must_use]
    pub fn key(&self) -> String {
        self.keys.join(AND)
    }

    /// The value that a cell has of it, in the form of [`Setting::key`].
    #[must_use]
    pub fn value(&self, plan: &Plan, cell: &Cell) -> String {
        self.texts(plan, cell).join(AND)
    }

    /// All values, in the order of the plan: the first is what others are held against.
    #[must_use]
    pub fn values(&self) -> Vec<String> {
        self.values.iter().map(|texts| texts.join(AND)).collect()
    }

    fn texts<'c>(&self, plan: &'c Plan, cell: &'c Cell) -> Vec<&'c str> {
        let keys = self.keys.iter();
        keys.map(|key| plan.value_of(cell, key)).collect()
    }

    /// Where the cell's value stands among all.
    fn place(&self, plan: &Plan, cell: &Cell) -> usize {
        let texts = self.texts(plan, cell);
        let found = self.values.iter().position(|value| *value == texts);
        found.unwrap_or(self.values.len())
    }
}

/// A setting with its value in words: `all vCPUs on CPU 0`, or `guest.backing=2M` where there are no better ones. `key` and
/// `value` may hold several paths as in [`Setting::key`].
#[must_use]
pub fn setting_words(key: &str, value: &str) -> String {
    let pairs = key.split(AND).zip(value.split(AND));
    let words: Vec<String> = pairs.map(|(key, value)| one_in_words(key, value)).collect();
    words.join(" and ")
}

fn one_in_words(key: &str, value: &str) -> String {
    if key == "guest.pinning" {
        match value {
            "none" => return "floating vCPUs".to_owned(),
            "one-to-one" => return "each vCPU on its own CPU".to_owned(),
            _ => {}
        }
        let inside = value.trim_matches(['{', '}', ' ']);
        let cpu = inside
            .strip_prefix("all-on")
            .map(|rest| rest.trim_start_matches([' ', '=']));
        if let Some(cpu) = cpu {
            return format!("all vCPUs on CPU {cpu}");
        }
    }
    format!("{key}={value}")
}

impl Plan {
    /// The settings that differ among its cells, in the order in which the cells show them.
    #[must_use]
    pub fn settings(&self) -> Vec<Setting> {
        let mut columns: Vec<(Vec<usize>, Setting)> = Vec::new();
        for key in self.varied().into_iter().filter(|key| is_setting(key)) {
            let mut values: Vec<&str> = Vec::new();
            let mut column = Vec::with_capacity(self.cells.len());
            for cell in &self.cells {
                let value = self.value_of(cell, key);
                let known = values.iter().position(|it| *it == value);
                column.push(known.unwrap_or(values.len()));
                if known.is_none() {
                    values.push(value);
                }
            }
            // Fields that always vary together cannot be told apart: they are one setting.
            match columns.iter_mut().find(|(other, _)| *other == column) {
                Some((_, setting)) => {
                    setting.keys.push(key.to_owned());
                    for (texts, value) in setting.values.iter_mut().zip(values) {
                        texts.push(value.to_owned());
                    }
                }
                None => columns.push((
                    column,
                    Setting {
                        keys: vec![key.to_owned()],
                        values: values.into_iter().map(|it| vec![it.to_owned()]).collect(),
                    },
                )),
            }
        }
        columns.into_iter().map(|(_, setting)| setting).collect()
    }

    /// The pairs of cells that differ in one setting alone: each value against the first that a cell has with all else alike.
    /// By setting, then by value, then in the order of the plan.
    #[must_use]
    pub fn setting_pairs(&self) -> Vec<SettingPair<'_>> {
        let varied = self.varied();
        let settings = self.settings();
        let mut pairs = Vec::new();
        for (place, setting) in settings.iter().enumerate() {
            let rest: Vec<&str> = varied
                .iter()
                .copied()
                .filter(|key| !setting.keys.iter().any(|own| own == key))
                .collect();
            type Work<'p> = (&'p str, [u64; vtax_workloads::MAX_PARAMS], Vec<&'p str>);
            let mut groups: BTreeMap<Work<'_>, Vec<(usize, &Cell)>> = BTreeMap::new();
            for cell in &self.cells {
                let others = rest.iter().map(|key| self.value_of(cell, key)).collect();
                let work = (cell.workload.name.as_str(), cell.workload.params, others);
                let group = groups.entry(work).or_default();
                group.push((setting.place(self, cell), cell));
            }
            let mut found: Vec<(usize, SettingPair<'_>)> = Vec::new();
            for group in groups.into_values() {
                let first = group.iter().min_by_key(|(value, cell)| (*value, cell.id));
                let Some(&(first, reference)) = first else {
                    continue;
                };
                let others = group.into_iter().filter(|(value, _)| *value != first);
                found.extend(others.map(|(value, cell)| {
                    let pair = SettingPair {
                        setting: place,
                        cell,
                        reference,
                    };
                    (value, pair)
                }));
            }
            found.sort_by_key(|(value, pair)| (*value, pair.cell.id));
            pairs.extend(found.into_iter().map(|(_, pair)| pair));
        }
        pairs
    }

    /// Whether its question is what settings do to the guest: the matrix varies some, and nobody claimed anything.
    #[must_use]
    pub fn asks_of_settings(&self) -> bool {
        self.claim.assumed && self.claim.form == Form::Share && !self.setting_pairs().is_empty()
    }

    /// The value that a cell has of the field at this path, as the user writes it.
    #[must_use]
    pub fn value_of<'p>(&'p self, cell: &'p Cell, key: &str) -> &'p str {
        let given = cell.parameters.get(key).or_else(|| self.base.get(key));
        given.map_or(DEFAULT, String::as_str)
    }

    /// The paths of which cells have several values, in the order in which cells show them.
    fn varied(&self) -> Vec<&str> {
        let mut paths: Vec<&str> = Vec::new();
        for cell in &self.cells {
            // Only the path of a field has a dot; a workload's own parameter has none.
            let own = cell.parameters.keys().map(String::as_str);
            for path in own.filter(|path| path.contains('.')) {
                if !paths.contains(&path) {
                    paths.push(path);
                }
            }
        }
        paths.retain(|path| {
            let mut values = self.cells.iter().map(|cell| self.value_of(cell, path));
            let first = values.next();
            values.any(|value| Some(value) != first)
        });
        paths
    }
}

fn is_setting(path: &str) -> bool {
    let section = path.split('.').next().unwrap_or_default();
    SECTIONS.contains(&section)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Overrides, parse};

    fn plan(rest: &str) -> Plan {
        let text = format!("schema = 1\nname = \"s\"\n{rest}");
        match parse("s.toml", &text, &Overrides::default()) {
            Ok(loaded) => loaded.plan,
            Err(error) => panic!("{error}"),
        }
    }

    /// `label against label` of every pair.
    fn pairs(plan: &Plan) -> Vec<String> {
        let pairs = plan.setting_pairs();
        let text =
            |pair: &SettingPair<'_>| format!("{} < {}", pair.cell.label, pair.reference.label);
        pairs.iter().map(text).collect()
    }

    const TWO: &str = "[[workload]]\nname = \"cpu-hash\"\n[[workload]]\nname = \"cpu-lookup\"\n";

    #[test]
    fn each_value_is_held_against_the_first_at_the_same_work() {
        let plan = plan(&format!(
            "{TWO}[matrix]\n\"guest.backing\" = [\"thp\", \"4k\", \"2M\"]\n"
        ));
        let settings = plan.settings();
        assert_eq!(settings.len(), 1);
        assert_eq!(settings[0].key(), "guest.backing");
        assert_eq!(settings[0].values(), ["thp", "4k", "2M"]);
        assert_eq!(
            pairs(&plan),
            [
                "cpu-hash / guest.backing=4k < cpu-hash / guest.backing=thp",
                "cpu-lookup / guest.backing=4k < cpu-lookup / guest.backing=thp",
                "cpu-hash / guest.backing=2M < cpu-hash / guest.backing=thp",
                "cpu-lookup / guest.backing=2M < cpu-lookup / guest.backing=thp",
            ]
        );
        assert!(plan.asks_of_settings() && !plan.sized_by_precision());
    }

    #[test]
    fn of_several_settings_one_differs_at_a_time() {
        let plan = plan(
            "[[workload]]\nname = \"cpu-hash\"\n[matrix]\n\"guest.backing\" = [\"4k\", \"2M\"]\n\
             \"guest.page-size\" = [\"4k\", \"2M\"]\n",
        );
        let found = pairs(&plan);
        assert_eq!(found.len(), 4, "{found:?}");
        for pair in plan.setting_pairs() {
            let differ =
                |key: &str| plan.value_of(pair.cell, key) != plan.value_of(pair.reference, key);
            let differing = ["guest.backing", "guest.page-size"]
                .into_iter()
                .filter(|it| differ(it));
            assert_eq!(differing.count(), 1);
        }
    }

    #[test]
    fn a_cell_that_leaves_a_field_out_has_it_from_the_tables_or_by_default() {
        let plan = plan(
            "[guest]\nbacking = \"thp\"\n[[neighbour]]\nname = \"n\"\nwork = \"cpu\"\n[[workload]]\nname = \"cpu-hash\"\n\
             [matrix]\ninclude = [{ \"guest.backing\" = \"4k\" }, { \"neighbour.n.cpu-quota\" = \"20%\" }, \
             { \"neighbour.n.work\" = \"idle\" }]\n",
        );
        let told: Vec<(String, Vec<String>)> = plan
            .settings()
            .iter()
            .map(|it| (it.key(), it.values()))
            .collect();
        let expected = [
            ("guest.backing", ["thp", "4k"]),
            ("neighbour.n.cpu-quota", ["default", "20%"]),
            ("neighbour.n.work", ["cpu", "idle"]),
        ];
        let expected =
            expected.map(|(key, values)| (key.to_owned(), values.map(str::to_owned).to_vec()));
        assert_eq!(told, expected);
        for pair in plan.setting_pairs() {
            assert_eq!(pair.reference.label, "cpu-hash");
        }
    }

    #[test]
    fn fields_that_never_vary_apart_are_one_setting() {
        let plan = plan(
            "[[neighbour]]\nname = \"n\"\nwork = \"cpu\"\n[[workload]]\nname = \"cpu-hash\"\n[matrix]\n\
             \"guest.pinning\" = [[0], \"none\"]\n\"neighbour.n.pinning\" = [[1], \"none\"]\nexclude = [\n\
             { \"guest.pinning\" = [0], \"neighbour.n.pinning\" = \"none\" },\n\
             { \"guest.pinning\" = \"none\", \"neighbour.n.pinning\" = [1] }]\n",
        );
        let settings = plan.settings();
        assert_eq!(settings.len(), 1, "{settings:?}");
        assert_eq!(settings[0].key(), "guest.pinning + neighbour.n.pinning");
        assert_eq!(settings[0].values(), ["[0] + [1]", "none + none"]);
        assert_eq!(plan.setting_pairs().len(), 1);
    }

    #[test]
    fn what_changes_the_native_side_alone_is_no_setting_of_the_guest() {
        let plan = plan(
            "[[workload]]\nname = \"cpu-hash\"\n[matrix]\n\"baseline.backing\" = [\"same\", \"4k\"]\n\
             \"guest.backing\" = [\"4k\", \"thp\"]\n",
        );
        assert_eq!(plan.settings().len(), 1);
        // Partners have the same native side.
        for pair in plan.setting_pairs() {
            assert_eq!(pair.cell.baseline_backing, pair.reference.baseline_backing);
        }
        assert_eq!(plan.setting_pairs().len(), 2);
    }

    #[test]
    fn parameters_of_workloads_are_no_settings() {
        let plan = plan(
            "[[workload]]\nname = \"mem-latency\"\nparams = { size = [\"16KiB\", \"1MiB\"] }\n",
        );
        assert!(plan.settings().is_empty() && plan.setting_pairs().is_empty());
        assert!(plan.claim.assumed && !plan.asks_of_settings() && plan.sized_by_precision());
    }

    #[test]
    fn a_claim_of_the_author_is_asked_whatever_the_matrix_varies() {
        for claim in [
            "ratio = \"97%\"",
            "over = \"cpu\"",
            "each = true",
            "words = \"Said so.\"",
        ] {
            let text =
                format!("[claim]\n{claim}\n{TWO}[matrix]\n\"guest.backing\" = [\"4k\", \"thp\"]\n");
            let plan = plan(&text);
            assert!(!plan.claim.assumed && !plan.asks_of_settings(), "{claim}");
            assert_eq!(plan.setting_pairs().len(), 2);
        }
    }

    #[test]
    fn pinning_has_words() {
        for (value, words) in [
            ("none", "floating vCPUs"),
            ("one-to-one", "each vCPU on its own CPU"),
            ("{ all-on = 3 }", "all vCPUs on CPU 3"),
            ("[0, 1]", "guest.pinning=[0, 1]"),
        ] {
            assert_eq!(setting_words("guest.pinning", value), words);
        }
        assert_eq!(setting_words("guest.backing", "2M"), "guest.backing=2M");
        let both = setting_words("guest.pinning + neighbour.n.pinning", "none + [1]");
        assert_eq!(both, "floating vCPUs and neighbour.n.pinning=[1]");
    }
}
