//! The JSON Schema of the configuration: the mirror's shape, the table's bounds and defaults.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{
    raw::{RawApp, RawConfig},
    settings::{ALL, Setting, Unit},
};

/// The schema, as `bunpilot config schema` prints it: a whole configuration, or a single app.
pub(super) fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let choices = [generator.subschema_for::<RawConfig>(), generator.subschema_for::<RawApp>()];
    let mut definitions = generator.take_definitions(true);
    for setting in ALL {
        if let Some(property) = property(&mut definitions, "RawApp", setting.path) {
            bound(property, *setting);
        }
    }
    for name in ["RawConfig", "RawApp"] {
        if let Some(properties) = definitions.get_mut(name).and_then(|it| it.get_mut("properties"))
        {
            properties["$schema"] = json!({ "type": "string" });
        }
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "bunpilot configuration",
        "anyOf": choices,
        "$defs": definitions,
    })
}

/// The schema of the property at `path` below the definition `name`.
fn property<'s>(
    definitions: &'s mut Map<String, Value>,
    name: &str,
    path: &[&str],
) -> Option<&'s mut Map<String, Value>> {
    let (first, rest) = path.split_first()?;
    let found = definitions.get_mut(name)?.get_mut("properties")?.get_mut(first)?;
    if rest.is_empty() {
        return definitions.get_mut(name)?.get_mut("properties")?.get_mut(first)?.as_object_mut();
    }
    let next = reference(found)?;
    property(definitions, &next, rest)
}

/// The definition a property refers to, directly or as one of several.
fn reference(property: &Value) -> Option<String> {
    let direct = property.get("$ref").into_iter();
    let listed = property.get("anyOf").and_then(Value::as_array).into_iter().flatten();
    let target = direct.chain(listed.filter_map(|choice| choice.get("$ref"))).next()?;
    target.as_str()?.strip_prefix("#/$defs/").map(str::to_owned)
}

fn bound(property: &mut Map<String, Value>, setting: Setting) {
    let number = |value: u64| match setting.unit {
        Unit::Percent if value.is_multiple_of(100) => json!(value / 100),
        Unit::Percent | Unit::Count | Unit::Millis | Unit::Bytes => json!(value),
    };
    property.insert("minimum".to_owned(), number(setting.min));
    property.insert("maximum".to_owned(), number(setting.max));
    if let Some(default) = setting.default {
        property.insert("default".to_owned(), number(default));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_its_bounds_in_the_schema() {
        let mut schema = schema();
        let definitions = schema["$defs"].as_object_mut().unwrap();
        for setting in ALL {
            let property = property(definitions, "RawApp", setting.path);
            let property = property.unwrap_or_else(|| panic!("{:?}", setting.path));
            assert!(property.contains_key("minimum") && property.contains_key("description"));
        }
        let kill = &schema["$defs"]["RawApp"]["properties"]["killTimeout"];
        assert_eq!(kill["minimum"], 1000);
        assert_eq!(kill["default"], 5000);
    }

    /// Editors complain about a key that the types do not have.
    #[test]
    fn every_key_is_in_the_types_for_typescript() {
        let types = include_str!("../sdk/js/index.d.ts");
        let schema = schema();
        let definitions = schema["$defs"].as_object().unwrap().values();
        let keys = definitions.filter_map(|it| it["properties"].as_object()).flat_map(Map::keys);
        let missing: Vec<_> = keys
            .filter(|key| *key != "$schema")
            .filter(|key| !types.contains(&format!("  {key}?: ")))
            .filter(|key| !types.contains(&format!("  {key}: ")))
            .collect();
        assert_eq!(missing, [""; 0]);
    }
}
