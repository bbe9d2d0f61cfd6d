//! The JSON Schema of `[matrix]`: which paths there are, so that an editor completes them and refuses others.

use serde_json::{Map, Value, json};
use vtax_workloads::CATALOGUE;

use crate::keys;
use crate::matrix::SECTIONS;
use crate::neighbour::spec::TABLE;
use crate::schema::parameter_value_schema;

/// Fields of the sections that hold for the whole run.
const FIXED: [&str; 1] = ["measure.budget"];

/// Replaces what the types say of `[matrix]`, any key with a list, by the paths that there are.
pub(crate) fn refine(document: &mut Value) {
    let paths = paths(document);
    let neighbour = neighbour_fields(document);
    let pattern = format!("^{TABLE}\\.[^.]+\\.({})$", neighbour.join("|"));
    let list = |value: &Value| json!({ "type": "array", "items": value, "minItems": 1 });
    let lists: Map<String, Value> = paths
        .iter()
        .map(|(path, it)| (path.clone(), list(it)))
        .collect();

    let mut selected = paths.clone();
    selected.insert("workload".to_owned(), workload_or_its_parameters(&paths));
    let selection = |description: &Value| {
        let tables = nested(&paths, |it| it.clone(), json!({}));
        let mut properties = tables;
        properties.extend(selected.clone());
        json!({
            "description": description, "default": [], "type": "array",
            "items": {
                "type": "object", "properties": properties, "additionalProperties": false,
                "patternProperties": { &pattern: {} },
            },
        })
    };
    let matrix = &document["properties"]["matrix"];
    let [include, exclude] =
        ["include", "exclude"].map(|key| selection(&matrix["properties"][key]["description"]));
    let mut properties = nested(&paths, list, list(&json!({})));
    properties.extend(lists);
    properties.insert("include".to_owned(), include);
    properties.insert("exclude".to_owned(), exclude);
    let refined = json!({
        "description": matrix["description"], "type": "object", "properties": properties,
        "patternProperties": { &pattern: { "type": "array", "minItems": 1 } },
        "additionalProperties": false,
    });
    document["properties"]["matrix"] = refined;
}

/// Every path with the schema of its value, neighbours apart, whose names are the scenario's.
fn paths(document: &Value) -> Map<String, Value> {
    let mut found = Map::new();
    for section in SECTIONS {
        let pointer = format!("#/properties/{section}");
        fields(
            &document["properties"][section],
            section,
            &pointer,
            &mut found,
        );
    }
    for path in FIXED {
        found.remove(path);
    }
    for workload in CATALOGUE {
        for param in workload.params {
            let path = format!("workload.{}.{}", workload.name, param.name);
            found.insert(path, parameter_value_schema(param));
        }
    }
    found
}

/// The fields of a table, and those of the tables in it.
fn fields(table: &Value, path: &str, pointer: &str, found: &mut Map<String, Value>) {
    for key in keys::keys_of(table) {
        let path = format!("{path}.{key}");
        let pointer = format!("{pointer}/properties/{key}");
        fields(&table["properties"][key], &path, &pointer, found);
        found.insert(path, json!({ "$ref": pointer }));
    }
}

/// The fields of a neighbour that may vary.
fn neighbour_fields(document: &Value) -> Vec<String> {
    let fields = keys::keys_of(&document["properties"][TABLE]["items"]);
    let fields = fields.into_iter().filter(|&field| field != "name");
    fields.map(str::to_owned).collect()
}

/// The same paths as dotted keys without quotes, which TOML reads as tables in tables.
fn nested(
    paths: &Map<String, Value>,
    value: impl Fn(&Value) -> Value,
    of_neighbours: Value,
) -> Map<String, Value> {
    let mut root = json!({ "properties": {} });
    for (path, schema) in paths {
        let parts: Vec<&str> = path.split('.').collect();
        let Some((last, tables)) = parts.split_last() else {
            continue;
        };
        // A field that is a table itself is given as a whole.
        if paths.contains_key(&tables.join(".")) {
            continue;
        }
        let mut table = &mut root;
        for part in tables {
            table = &mut table["properties"][*part];
            if table.is_null() {
                *table =
                    json!({ "type": "object", "properties": {}, "additionalProperties": false });
            }
        }
        table["properties"][*last] = value(schema);
    }
    let neighbour = json!({
        "type": "object",
        "additionalProperties": { "type": "object", "additionalProperties": of_neighbours },
    });
    root["properties"][TABLE] = neighbour;
    root["properties"].as_object().cloned().unwrap_or_default()
}

/// `workload` in a selection: a name, or a table of workloads with parameters.
fn workload_or_its_parameters(paths: &Map<String, Value>) -> Value {
    let names: Vec<&str> = CATALOGUE.iter().map(|it| it.name).collect();
    let tables = nested(paths, |it| it.clone(), json!({}));
    let tables = tables.get("workload").cloned().unwrap_or_default();
    json!({ "anyOf": [{ "enum": names }, tables] })
}
