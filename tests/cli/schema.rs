//! The JSON Schemas of `docs/schema/`, which real documents are held against.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use jsonschema::Validator;
use serde_json::Value;

/// A schema.
pub(crate) struct Schema {
    json: Value,
    as_it_is: Validator,
    /// Takes no key that the schema does not describe.
    strict: Validator,
}

impl Schema {
    /// The schema of this name.
    pub(crate) fn load(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema");
        let text = fs::read_to_string(folder.join(format!("{name}.schema.json")));
        let json: Value = serde_json::from_str(&text.expect("a schema")).expect("JSON");
        assert!(jsonschema::meta::is_valid(&json), "{name} is no schema");
        let mut strict = json.clone();
        close(&mut strict);
        Self {
            as_it_is: jsonschema::validator_for(&json).expect("a schema"),
            strict: jsonschema::validator_for(&strict).expect("a schema"),
            json,
        }
    }

    /// Fails unless the document is what the schema says, with nothing that it does not describe.
    #[track_caller]
    pub(crate) fn expect_valid(&self, document: &Value) {
        let mut errors = self.strict.iter_errors(document);
        if let Some(error) = errors.next() {
            panic!("{error}, at {} in\n{document:#}", error.instance_path());
        }
        assert!(self.as_it_is.is_valid(document), "{document:#}");
    }

    /// Whether a reader that goes by the schema takes the document.
    pub(crate) fn takes(&self, document: &Value) -> bool {
        self.as_it_is.is_valid(document)
    }

    /// The words that the schema has for a key of one of its definitions.
    pub(crate) fn words(&self, definition: &str, key: &str) -> BTreeSet<String> {
        let property = &self.json["$defs"][definition]["properties"][key];
        let words = self.referred(property).unwrap_or(property)["enum"].as_array();
        let word = |word: &Value| word.as_str().expect("a word").to_owned();
        words.expect("a list of words").iter().map(word).collect()
    }

    /// What a schema refers to.
    fn referred(&self, schema: &Value) -> Option<&Value> {
        let reference = schema["$ref"].as_str()?;
        let pointer = reference.strip_prefix('#').expect("it is in the same file");
        Some(self.json.pointer(pointer).expect("it leads somewhere"))
    }

    /// Keys without a description, each behind what it is a key of.
    pub(crate) fn undescribed(&self) -> Vec<String> {
        let mut found = Vec::new();
        each_property(&self.json, "", &mut |place, property| {
            let is_described = [Some(property), self.referred(property)]
                .into_iter()
                .flatten()
                .any(|schema| schema["description"].is_string() || !schema["const"].is_null());
            if !is_described {
                found.push(place.to_owned());
            }
        });
        found
    }

    /// All keys that documents may have.
    pub(crate) fn keys(&self) -> BTreeSet<String> {
        let mut keys = BTreeSet::new();
        each_property(&self.json, "", &mut |place, _| {
            let (_, key) = place.rsplit_once('/').expect("it is a key of something");
            keys.insert(key.to_owned());
        });
        keys
    }
}

/// Visits every key that the schema describes, with what it is a key of. Conditions, which only narrow
/// them, are left out.
fn each_property(schema: &Value, place: &str, visit: &mut dyn FnMut(&str, &Value)) {
    let is_object = schema["type"] == "object";
    let properties = schema["properties"].as_object().filter(|_| is_object);
    for (key, property) in properties.into_iter().flatten() {
        let place = format!("{place}/{key}");
        visit(&place, property);
        each_property(property, &place, visit);
    }
    for (name, definition) in schema["$defs"].as_object().into_iter().flatten() {
        each_property(definition, name, visit);
    }
}

/// Has every object of the schema refuse keys that it does not describe.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            let is_object = members.get("type").is_some_and(|kind| kind == "object");
            if is_object && members.contains_key("properties") {
                members.insert("additionalProperties".to_owned(), false.into());
            }
            members.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}
