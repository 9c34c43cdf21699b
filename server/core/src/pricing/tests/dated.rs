//! Books of dated prices against a naive reading of what they promise.

use proptest::prelude::*;

use super::*;

/// Few enough that most queries meet several prices.
const PROVIDERS: [&str; 3] = ["one", "two", "three"];
const MODELS: [&str; 4] = ["m", "n", "m-2025-01-01", "two/m"];
/// Instants lie close together, so that many are the same.
const INSTANTS: i64 = 12;

fn sheet((id, place): (&str, usize), (provider, model, from): (usize, usize, i64)) -> PriceSheet {
    let id = PriceId::parse("price", &format!("price_{id}{place}")).unwrap();
    PriceSheet {
        reference: PriceRef { id, version: 1 },
        provider: PROVIDERS[provider].to_owned(),
        model: MODELS[model].to_owned(),
        effective_from: Millis::new(from),
        ..plain_sheet()
    }
}

/// Prices in any order, each unique by provider, model and instant.
fn dated(id: &'static str) -> impl Strategy<Value = Vec<PriceSheet>> {
    let keys = (0..PROVIDERS.len(), 0..MODELS.len(), 0..INSTANTS);
    let unique = proptest::collection::hash_set(keys, 0..40);
    unique.prop_map(move |keys| {
        keys.into_iter().enumerate().map(|(place, key)| sheet((id, place), key)).collect()
    })
}

fn models() -> impl Strategy<Value = String> {
    let model = proptest::sample::select(&MODELS[..]);
    let prefix = proptest::sample::select(vec!["", "one/", "three/", "four/"]);
    let date = proptest::sample::select(vec!["", "-2025-01-01", "-20250101"]);
    (prefix, model, date).prop_map(|(prefix, model, date)| format!("{prefix}{model}{date}"))
}

fn hints() -> impl Strategy<Value = Option<&'static str>> {
    proptest::option::of(proptest::sample::select(vec!["one", "two", "four"]))
}

/// The names of a model in the order in which they are tried.
fn names(model: &str) -> Vec<(Option<&str>, &str)> {
    let mut names = vec![(None, model)];
    names.extend(model.rsplit_once('/').map(|(provider, model)| (Some(last_part(provider)), model)));
    let undated: Vec<_> =
        names.iter().filter_map(|(provider, model)| Some((*provider, undated(model)?))).collect();
    names.extend(undated);
    names
}

fn undated(model: &str) -> Option<&str> {
    ["-2025-01-01", "-20250101"].iter().find_map(|date| model.strip_suffix(date))
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Whether anything decides, and what it is.
fn looked_up_one_by_one<'a>(
    sheets: &'a [PriceSheet],
    query: &ModelQuery<'_>,
) -> Option<Option<&'a PriceSheet>> {
    names(query.model).into_iter().find_map(|(provider, model)| {
        let fits = |sheet: &&PriceSheet| {
            sheet.effective_from <= query.at
                && sheet.model == model
                && provider.is_none_or(|p| p == sheet.provider)
        };
        let fitting: Vec<&PriceSheet> = sheets.iter().filter(fits).collect();
        let hinted: Vec<_> = fitting
            .iter()
            .copied()
            .filter(|sheet| Some(sheet.provider.as_str()) == query.provider_hint)
            .collect();
        let of_one = if hinted.is_empty() { fitting } else { hinted };
        let latest = of_one.iter().copied().max_by_key(|sheet| sheet.effective_from)?;
        Some(of_one.iter().all(|sheet| sheet.provider == latest.provider).then_some(latest))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_book_finds_what_looking_at_every_price_finds(
        own in dated("own"),
        listed in dated("listed"),
        model in models(),
        provider_hint in hints(),
        at in 0..INSTANTS,
    ) {
        let query = ModelQuery { model: &model, provider_hint, at: Millis::new(at) };
        let (overrides, catalogue) = (PriceBook::new(own.clone()), PriceBook::new(listed.clone()));
        prop_assert_eq!(overrides.find(&query), looked_up_one_by_one(&own, &query).flatten());
        let either = looked_up_one_by_one(&own, &query).or_else(|| looked_up_one_by_one(&listed, &query));
        prop_assert_eq!(find_price(&overrides, &catalogue, &query), either.flatten());
    }

    #[test]
    fn a_price_ends_at_the_first_later_instant_of_its_model(sheets in dated("own")) {
        let book = PriceBook::new(sheets.clone());
        for sheet in &sheets {
            let later = sheets.iter().filter(|other| {
                (&other.provider, &other.model) == (&sheet.provider, &sheet.model)
                    && other.effective_from > sheet.effective_from
            });
            prop_assert_eq!(book.end_of(sheet), later.map(|other| other.effective_from).min());
        }
    }
}
