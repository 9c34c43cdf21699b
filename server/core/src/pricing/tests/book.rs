//! Tests of finding a price by model, provider and instant.

use super::*;

fn entry(provider: &str, model: &str) -> PriceSheet {
    PriceSheet { provider: provider.into(), model: model.into(), ..plain_sheet() }
}

fn version(sheet: PriceSheet, id: &str, version: u32, effective_ms: i64) -> PriceSheet {
    let id = PriceId::parse("price", id).unwrap();
    let effective_from = Millis::new(effective_ms);
    PriceSheet { reference: PriceRef { id, version }, effective_from, ..sheet }
}

fn ask(model: &str) -> ModelQuery<'_> {
    ModelQuery { model, provider_hint: None, at: Millis::new(1_000) }
}

fn named(book: &PriceBook, query: &ModelQuery<'_>) -> Option<String> {
    book.find(query).map(|sheet| format!("{}/{}", sheet.provider, sheet.model))
}

#[test]
fn an_exact_name_goes_before_the_name_without_its_date() {
    let book = PriceBook::new(vec![entry("openai", "gpt-4o"), entry("openai", "gpt-4o-2024-05-13")]);
    assert_eq!(named(&book, &ask("gpt-4o-2024-05-13")).as_deref(), Some("openai/gpt-4o-2024-05-13"));
    assert_eq!(named(&book, &ask("gpt-4o-2024-08-06")).as_deref(), Some("openai/gpt-4o"));
    assert_eq!(named(&book, &ask("gpt-4o")).as_deref(), Some("openai/gpt-4o"));
    assert_eq!(named(&book, &ask("gpt-4o-mini")), None);
    assert_eq!(named(&book, &ask("")), None);
}

#[test]
fn only_whole_dates_are_taken_off_a_name() {
    let book = PriceBook::new(vec![entry("anthropic", "claude-x"), entry("openai", "gpt-4")]);
    for dated in ["claude-x-20251001", "claude-x@20251001", "claude-x-2025-10-01"] {
        assert_eq!(named(&book, &ask(dated)).as_deref(), Some("anthropic/claude-x"), "{dated}");
    }
    let others = [
        "gpt-4-0613",
        "claude-x-2025100",
        "claude-x-20251301",
        "claude-x-20250132",
        "claude-x-19991001",
        "claude-x-2025-10-0a",
        "claude-x/20251001",
        "-20251001",
        "@20251001",
        "claude-x-２０２５１００１",
    ];
    for other in others {
        assert_eq!(named(&book, &ask(other)), None, "{other}");
    }
}

#[test]
fn a_prefix_names_the_provider() {
    let book = PriceBook::new(vec![entry("openai", "gpt-4o"), entry("mirror", "gpt-4o")]);
    assert_eq!(named(&book, &ask("mirror/gpt-4o")).as_deref(), Some("mirror/gpt-4o"));
    assert_eq!(named(&book, &ask("router/openai/gpt-4o")).as_deref(), Some("openai/gpt-4o"));
    assert_eq!(named(&book, &ask("openai/gpt-4o-2024-08-06")).as_deref(), Some("openai/gpt-4o"));
    assert_eq!(named(&book, &ask("nobody/gpt-4o")), None);
    let own = PriceBook::new(vec![entry("router", "openai/gpt-4o"), entry("openai", "gpt-4o")]);
    assert_eq!(named(&own, &ask("openai/gpt-4o")).as_deref(), Some("router/openai/gpt-4o"));
}

#[test]
fn a_hint_decides_between_providers_and_only_there() {
    let book = PriceBook::new(vec![entry("one", "shared"), entry("two", "shared"), entry("one", "lonely")]);
    let hinted = |model, hint| ModelQuery { provider_hint: Some(hint), ..ask(model) };
    assert_eq!(named(&book, &ask("shared")), None);
    assert_eq!(named(&book, &hinted("shared", "three")), None);
    assert_eq!(named(&book, &hinted("shared", "two")).as_deref(), Some("two/shared"));
    assert_eq!(named(&book, &hinted("lonely", "two")).as_deref(), Some("one/lonely"));
}

#[test]
fn a_name_of_several_providers_does_not_fall_back_to_another_name() {
    let sheets = ["one", "two"].map(|provider| entry(provider, "m-2025-01-01"));
    let book = PriceBook::new(sheets.into_iter().chain([entry("one", "m")]).collect());
    assert_eq!(named(&book, &ask("m-2025-01-01")), None);
    assert_eq!(named(&book, &ask("m-2025-01-02")).as_deref(), Some("one/m"));
}

#[test]
fn the_version_in_force_at_the_instant_is_found() {
    let versions = [(1, 100), (2, 200), (3, 300)];
    let sheets = versions.map(|(number, from)| version(entry("own", "m"), "price_own", number, from));
    let book = PriceBook::new(sheets.into_iter().rev().collect());
    let at = |ms| {
        let query = ModelQuery { at: Millis::new(ms), ..ask("m") };
        book.find(&query).map(|sheet| sheet.reference.version)
    };
    assert_eq!([at(99), at(100), at(199), at(200), at(10_000)], [None, Some(1), Some(1), Some(2), Some(3)]);
}

#[test]
fn of_two_versions_from_one_instant_the_higher_is_in_force() {
    let sheets = [2, 1].map(|number| version(entry("own", "m"), "price_own", number, 100));
    let book = PriceBook::new(sheets.to_vec());
    assert_eq!(book.find(&ask("m")).unwrap().reference.version, 2);
}

#[test]
fn a_price_ends_when_the_next_one_of_its_provider_and_model_begins() {
    let sheets = vec![
        version(entry("own", "m"), "price_1", 1, 100),
        version(entry("own", "m"), "price_2", 1, 300),
        version(entry("own", "n"), "price_3", 1, 150),
        version(entry("other", "m"), "price_4", 1, 200),
    ];
    let book = PriceBook::new(sheets.clone());
    let ends: Vec<_> = sheets.iter().map(|sheet| book.end_of(sheet).map(Millis::get)).collect();
    assert_eq!(ends, [Some(300), None, None, None]);
    assert_eq!(PriceBook::default().end_of(&sheets[0]), None);
}

#[test]
fn any_override_that_fits_goes_before_the_catalogue_once_it_is_in_force() {
    let own = version(entry("openai", "gpt-4o"), "price_own", 1, 500);
    let overrides = PriceBook::new(vec![own]);
    let catalogue = PriceBook::new(vec![entry("openai", "gpt-4o"), entry("openai", "gpt-4o-2024-08-06")]);
    let found = |model, ms| {
        let query = ModelQuery { at: Millis::new(ms), ..ask(model) };
        find_price(&overrides, &catalogue, &query).map(|sheet| sheet.reference.id.as_str())
    };
    assert_eq!(found("gpt-4o", 499), Some("price_test"));
    assert_eq!(found("gpt-4o", 500), Some("price_own"));
    assert_eq!(found("gpt-4o-2024-08-06", 500), Some("price_own"));
    assert_eq!(found("gpt-4o-mini", 500), None);
}

#[test]
fn overrides_of_several_providers_hide_the_catalogue_without_a_hint() {
    let overrides = PriceBook::new(vec![entry("one", "m"), entry("two", "m")]);
    let catalogue = PriceBook::new(vec![entry("one", "m")]);
    assert!(find_price(&overrides, &catalogue, &ask("m")).is_none());
}

#[test]
fn a_version_is_found_by_its_reference() {
    let sheets = [1, 2].map(|number| version(entry("own", "m"), "price_own", number, 100));
    let book = PriceBook::new(sheets.to_vec());
    let id = PriceId::parse("price", "price_own").unwrap();
    let reference = |version| PriceRef { id: id.clone(), version };
    assert_eq!(book.version(&reference(1)).unwrap().reference.version, 1);
    assert!(book.version(&reference(3)).is_none());
    assert_eq!(book.newest(&id).unwrap().reference.version, 2);
    assert!(book.newest(&PriceId::parse("price", "price_other").unwrap()).is_none());
}

#[test]
fn a_book_lists_its_prices_by_provider_and_model() {
    let book = PriceBook::new(vec![entry("b", "1"), entry("a", "2"), entry("a", "1")]);
    let listed: Vec<_> = book.iter().map(|sheet| (sheet.provider.as_str(), sheet.model.as_str())).collect();
    assert_eq!(listed, [("a", "1"), ("a", "2"), ("b", "1")]);
    assert_eq!((book.len(), book.is_empty(), PriceBook::default().is_empty()), (3, false, true));
}

proptest::proptest! {
    #[test]
    fn no_name_makes_a_search_panic(model in "\\PC{0,40}", dated in "[a-z/@-]{0,6}[0-9-]{0,12}é?") {
        let book = PriceBook::new(vec![entry("openai", "gpt-4o")]);
        proptest::prop_assert!(named(&book, &ask(&model)).is_none());
        proptest::prop_assert!(named(&book, &ask(&dated)).is_none());
    }
}
