//! As much of JSON Schema as `/openapi.json` uses: a value is held to it, and what was seen of it is remembered.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::Value;

/// The description that the engine serves.
pub(crate) struct Spec {
    pub(crate) doc: Value,
    /// Fields of answers that have been seen, by the place of their schema.
    seen: RefCell<BTreeSet<String>>,
}

/// Everything that this reader knows. Another word in the description would be checked by nobody.
const WORDS: [&str; 16] = [
    "$ref",
    "additionalProperties",
    "anyOf",
    "description",
    "enum",
    "format",
    "items",
    "maximum",
    "maxLength",
    "minimum",
    "pattern",
    "properties",
    "required",
    "type",
    "title",
    "default",
];

impl Spec {
    pub(crate) fn new(text: &str) -> Self {
        Self { doc: serde_json::from_str(text).unwrap(), seen: RefCell::default() }
    }

    /// `at`: where the schema stands, as a JSON pointer.
    pub(crate) fn check(&self, at: &str, value: &Value) -> Result<(), String> {
        let schema = self.doc.pointer(at).unwrap_or_else(|| panic!("nothing at {at}"));
        if let Some(to) = schema.get("$ref") {
            return self.check(to.as_str().unwrap().strip_prefix('#').unwrap(), value);
        }
        if let Some(any) = schema["anyOf"].as_array() {
            let refusals: Vec<_> =
                (0..any.len()).filter_map(|i| self.check(&format!("{at}/anyOf/{i}"), value).err()).collect();
            return if refusals.len() < any.len() { Ok(()) } else { Err(refusals.join("; ")) };
        }
        let wrong = |what: &str| Err(format!("{value} is not what {at} says: {what}"));
        if !types(&schema["type"]).iter().any(|kind| is(kind, value)) {
            return wrong("type");
        }
        if let Some(known) = schema["enum"].as_array()
            && !known.contains(value)
        {
            return wrong("enum");
        }
        let number = value.as_f64().unwrap_or_default();
        let (least, most) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
        if value.is_number() && (least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most)) {
            return wrong("range");
        }
        if let Some(items) = value.as_array() {
            items.iter().try_for_each(|item| self.check(&format!("{at}/items"), item))?;
        }
        self.check_fields(at, schema, value)
    }

    fn check_fields(&self, at: &str, schema: &Value, value: &Value) -> Result<(), String> {
        let Some(fields) = value.as_object() else { return Ok(()) };
        for name in schema["required"].as_array().into_iter().flatten() {
            if !fields.contains_key(name.as_str().unwrap()) {
                return Err(format!("{at}: {name} is missing in {value}"));
            }
        }
        for (name, value) in fields {
            let place = format!("{at}/properties/{name}");
            if self.doc.pointer(&place).is_some() {
                self.check(&place, value)?;
                self.seen.borrow_mut().insert(place);
            } else if schema["additionalProperties"] == Value::Bool(false) {
                return Err(format!("{at}: {name} is not described, and was answered: {value}"));
            }
        }
        Ok(())
    }

    /// Fields below `at` that were in no answer.
    pub(crate) fn unseen(&self, at: &str) -> Vec<String> {
        let mut all = Vec::new();
        fields(at, self.doc.pointer(at).unwrap(), &mut all);
        all.retain(|place| !self.seen.borrow().contains(place));
        all
    }

    /// Words of a schema that [`Spec::check`] does not know.
    pub(crate) fn unknown(&self) -> BTreeSet<String> {
        let mut words = BTreeSet::new();
        collect(&self.doc, &mut words);
        words.retain(|word| !WORDS.contains(&word.as_str()));
        words
    }
}

fn types(told: &Value) -> Vec<&str> {
    match told {
        Value::String(one) => vec![one],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        _ => false,
    }
}

fn fields(at: &str, schema: &Value, all: &mut Vec<String>) {
    match schema {
        Value::Object(entries) => {
            for (name, inner) in entries {
                let place = format!("{at}/{name}");
                if at.ends_with("/properties") {
                    all.push(place.clone());
                }
                fields(&place, inner, all);
            }
        }
        Value::Array(items) => items.iter().enumerate().for_each(|(i, inner)| fields(&format!("{at}/{i}"), inner, all)),
        _ => {}
    }
}

/// Words of every schema in there.
fn collect(value: &Value, words: &mut BTreeSet<String>) {
    match value {
        Value::Object(entries) => {
            let is_schema = ["type", "$ref", "anyOf"].iter().any(|word| entries.contains_key(*word))
                && !entries.contains_key("scheme");
            if is_schema && !entries.values().all(Value::is_object) {
                words.extend(entries.keys().cloned());
            }
            entries.values().for_each(|inner| collect(inner, words));
        }
        Value::Array(items) => items.iter().for_each(|inner| collect(inner, words)),
        _ => {}
    }
}

#[test]
fn the_reader_of_schemas_refuses() {
    let spec = Spec::new(
        r##"{"a": {"type": "object", "required": ["n"], "additionalProperties": false,
            "properties": {"n": {"type": "integer", "minimum": 1}, "t": {"$ref": "#/b"}}},
            "b": {"anyOf": [{"type": "string", "enum": ["x"]}, {"type": "null"}]}}"##,
    );
    let fits = |text: &str| spec.check("/a", &serde_json::from_str(text).unwrap()).is_ok();
    assert!(fits(r#"{"n": 1}"#));
    assert_eq!(spec.unseen("/a"), ["/a/properties/t"]);
    assert!(fits(r#"{"n": 2, "t": "x"}"#) && fits(r#"{"n": 2, "t": null}"#));
    assert!(spec.unseen("/a").is_empty());
    for wrong in [
        r#"{}"#,
        r#"[]"#,
        r#"{"n": 0}"#,
        r#"{"n": "1"}"#,
        r#"{"n": 1.5}"#,
        r#"{"n": 1, "t": "y"}"#,
        r#"{"n": 1, "o": 1}"#,
    ] {
        assert!(!fits(wrong), "{wrong}");
    }
}
