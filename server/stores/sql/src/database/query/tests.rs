//! Tests of a statement's text for either database.

use super::super::builder::QueryBuilder;
use super::*;

fn text(kind: Kind) -> String {
    let mut builder = QueryBuilder::new("SELECT '?' AS mark WHERE a = ");
    builder.push_bind(1);
    builder.push(" AND b IN ");
    builder.push("(");
    let mut values = builder.separated(", ");
    values.push_bind("x").push_bind(None::<String>);
    builder.push(")");
    builder.build().text.of(kind).as_str().to_owned()
}

#[test]
fn a_built_statement_has_nameless_placeholders_in_sqlite() {
    assert_eq!(text(Kind::Sqlite), "SELECT '?' AS mark WHERE a = ? AND b IN (?, ?)");
}

#[test]
fn a_built_statement_has_numbered_placeholders_in_postgresql() {
    assert_eq!(text(Kind::Postgres), "SELECT '?' AS mark WHERE a = $1 AND b IN ($2, $3)");
}

#[test]
fn rows_of_placeholders_are_numbered_throughout_in_postgresql() {
    assert_eq!(Kind::Sqlite.placeholders(2, 2), "(?,?),(?,?)");
    assert_eq!(Kind::Postgres.placeholders(2, 2), "($1,$2),($3,$4)");
}
