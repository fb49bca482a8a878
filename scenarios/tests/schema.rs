//! `schema.json`, which editors use, says the same as the types.

#[test]
fn the_schema_file_equals_the_types() {
    let file = include_str!("../schema.json");
    let types = portcullis_scenarios::spec::json_schema();
    assert!(file == types, "schema.json differs; run: portcullis check --schema >scenarios/schema.json");
}
