use super::*;

/// The row of a method, whose name no other service has.
fn row_of(name: &str) -> String {
    let document = permissions_markdown();
    let begin = format!("| `{name}` |");
    let rows: Vec<&str> = document.lines().filter(|line| line.starts_with(&begin)).collect();
    assert_eq!(rows.len(), 1, "{name} in {document}");
    rows[0].to_owned()
}

#[test]
fn every_method_has_a_row_below_its_service() {
    let document = permissions_markdown();
    for method in METHODS {
        let (service, name) = method.names();
        let section =
            document.split("\n## ").find(|section| section.lines().next() == Some(service)).unwrap();
        assert_eq!(section.matches(&format!("| `{name}` |")).count(), 1, "{}", method.path);
    }
    assert_eq!(document.lines().filter(|line| line.starts_with("| `")).count(), METHODS.len());
}

#[test]
fn a_row_says_yes_below_the_roles_and_scopes_that_open_the_method() {
    assert_eq!(row_of("CreateRule"), "| `CreateRule` |  | yes | yes | yes |  |  | yes |  |  |");
    assert_eq!(row_of("CreateKey"), "| `CreateKey` |  |  | yes | yes |  |  | yes |  |  |");
    assert_eq!(row_of("ListRules"), "| `ListRules` | yes | yes | yes | yes |  |  | yes | yes |  |");
    assert_eq!(row_of("CheckQuota"), "| `CheckQuota` |  |  |  |  | yes |  |  |  | a gateway for an app |");
    assert_eq!(row_of("WatchRoutes"), "| `WatchRoutes` |  |  |  |  |  |  |  |  | a gateway for itself |");
}

#[test]
fn health_and_reflection_under_both_of_its_names_are_listed() {
    let document = permissions_markdown();
    for method in [
        "grpc.health.v1.Health/Check",
        "grpc.health.v1.Health/Watch",
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ] {
        assert!(document.contains(&format!("* `{method}`\n")), "{document}");
    }
}

#[test]
fn a_table_has_as_many_columns_in_each_of_its_rows() {
    let document = permissions_markdown();
    let bars = |line: &str| line.matches('|').count();
    let counts: Vec<usize> = document.lines().filter(|line| line.starts_with('|')).map(bars).collect();
    assert!(counts.iter().all(|count| *count == counts[0]), "{document}");
}

#[test]
fn what_is_open_to_everybody_or_any_person_is_told_so() {
    let of = |access| row("Do", &Method { path: "/a.B/Do", access });
    let everybody =
        "| `Do` | yes | yes | yes | yes | yes | yes | yes | yes | everybody, without a credential |\n";
    assert_eq!(of(Access::Everybody), everybody);
    let any_person = "| `Do` | yes | yes | yes | yes |  |  |  |  | a person of no workspace too |\n";
    assert_eq!(of(Access::AnyPerson), any_person);
}
