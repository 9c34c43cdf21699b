//! Which price a model has: by name, by provider, by instant.

use std::collections::HashMap;
use std::ops::Range;

use crate::ids::PriceId;
use crate::time::Millis;
use crate::usage::PriceRef;

use super::PriceSheet;

/// A model whose price is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelQuery<'a> {
    /// The model as the upstream names it.
    pub model: &'a str,
    /// Who probably offers it; only decides between several that offer the same name.
    pub provider_hint: Option<&'a str>,
    /// The instant at which the price must be in force.
    pub at: Millis,
}

/// Prices, found without allocating.
///
/// A model's name is tried in this order, and the first that anyone's price has decides:
///
/// 1. as it stands (`gpt-4o-2024-08-06`);
/// 2. with its last `/` read as *provider*`/`*model* (`openai/gpt-4o`), at that provider alone;
/// 3. without a date at its end: `-YYYY-MM-DD`, `-YYYYMMDD` or `@YYYYMMDD` (`gpt-4o`);
/// 4. without both.
///
/// Among several providers the hint decides; without one that fits, the price is unknown. Among
/// several of one provider it is the one that came into force last, and of two from one instant the
/// higher version.
#[derive(Clone, Debug, Default)]
pub struct PriceBook {
    /// By provider, model, and the instant from which they are in force.
    sheets: Vec<PriceSheet>,
    /// Where the prices of each model stand: one run for each provider.
    by_model: HashMap<Box<str>, Vec<Range<usize>>>,
    by_id: HashMap<PriceId, Vec<usize>>,
}

/// The price of a model: an override that fits by any of the book's names goes before the catalogue.
pub fn find_price<'a>(
    overrides: &'a PriceBook,
    catalogue: &'a PriceBook,
    query: &ModelQuery<'_>,
) -> Option<&'a PriceSheet> {
    match overrides.search(query) {
        Found::Nothing => catalogue.find(query),
        found => found.one(),
    }
}

impl PriceBook {
    /// A book of these prices; an id may stand in it with several versions.
    pub fn new(mut sheets: Vec<PriceSheet>) -> Self {
        sheets.sort_by(|a, b| order(a).cmp(&order(b)));
        let mut by_id: HashMap<PriceId, Vec<usize>> = HashMap::new();
        for (place, sheet) in sheets.iter().enumerate() {
            by_id.entry(sheet.reference.id.clone()).or_default().push(place);
        }
        Self { by_model: runs(&sheets), sheets, by_id }
    }

    /// The price of a model; `None` when it is unknown.
    pub fn find(&self, query: &ModelQuery<'_>) -> Option<&PriceSheet> {
        self.search(query).one()
    }

    /// One version of one price.
    pub fn version(&self, reference: &PriceRef) -> Option<&PriceSheet> {
        self.versions(&reference.id).find(|sheet| sheet.reference.version == reference.version)
    }

    /// The version of a price that comes into force last.
    pub fn newest(&self, id: &PriceId) -> Option<&PriceSheet> {
        self.versions(id).max_by_key(|sheet| age(sheet))
    }

    /// When the next price of the same provider and model comes into force; `None` for the last one.
    pub fn end_of(&self, sheet: &PriceSheet) -> Option<Millis> {
        let mut runs = self.runs_of(&sheet.model);
        let run = runs.find(|run| run.first().is_some_and(|first| first.provider == sheet.provider))?;
        run.get(begun(run, sheet.effective_from)).map(|next| next.effective_from)
    }

    /// All prices, by provider, model, and the instant from which they are in force.
    pub fn iter(&self) -> impl Iterator<Item = &PriceSheet> {
        self.sheets.iter()
    }

    /// How many prices stand in it, each version counted.
    pub fn len(&self) -> usize {
        self.sheets.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.sheets.is_empty()
    }

    fn versions(&self, id: &PriceId) -> impl Iterator<Item = &PriceSheet> {
        self.by_id.get(id).into_iter().flatten().filter_map(|place| self.sheets.get(*place))
    }

    fn search(&self, query: &ModelQuery<'_>) -> Found<'_> {
        let named = names(query.model).into_iter().flatten();
        let mut found = named.map(|name| self.choose(name, query));
        found.find(|found| !matches!(found, Found::Nothing)).unwrap_or(Found::Nothing)
    }

    fn choose(&self, name: Name<'_>, query: &ModelQuery<'_>) -> Found<'_> {
        let offers = || self.in_force(name, query.at);
        let Some(first) = offers().next() else { return Found::Nothing };
        let hinted = query.provider_hint.and_then(|hint| offers().find(|sheet| sheet.provider == hint));
        match hinted {
            Some(sheet) => Found::One(sheet),
            None if offers().nth(1).is_some() => Found::Several,
            None => Found::One(first),
        }
    }

    /// What each provider that offers a model takes for it at an instant.
    fn in_force<'s, 'n>(
        &'s self,
        name: Name<'n>,
        at: Millis,
    ) -> impl Iterator<Item = &'s PriceSheet> + use<'s, 'n> {
        let latest = move |run: &'s [PriceSheet]| run.get(begun(run, at).checked_sub(1)?);
        let offers = self.runs_of(name.model).filter_map(latest);
        offers.filter(move |sheet| name.provider.is_none_or(|provider| provider == sheet.provider))
    }

    /// The prices of a model, provider by provider, each by the instant from which they are in force.
    fn runs_of(&self, model: &str) -> impl Iterator<Item = &[PriceSheet]> {
        let places = self.by_model.get(model).into_iter().flatten();
        places.filter_map(|place| self.sheets.get(place.clone()))
    }
}

/// Where the runs of one provider's prices of one model stand among sorted ones.
fn runs(sheets: &[PriceSheet]) -> HashMap<Box<str>, Vec<Range<usize>>> {
    let mut runs: HashMap<Box<str>, Vec<Range<usize>>> = HashMap::new();
    let mut start = 0;
    for run in sheets.chunk_by(|one, next| one.provider == next.provider && one.model == next.model) {
        let place = start..start + run.len();
        start = place.end;
        if let Some(first) = run.first() {
            runs.entry(first.model.as_str().into()).or_default().push(place);
        }
    }
    runs
}

/// How many prices of a run have come into force by an instant.
fn begun(run: &[PriceSheet], at: Millis) -> usize {
    run.partition_point(|sheet| sheet.effective_from <= at)
}

/// What a book says of a model.
enum Found<'a> {
    /// It has no price under any of the names.
    Nothing,
    /// It has this one.
    One(&'a PriceSheet),
    /// Several providers have one, and nothing tells which is meant.
    Several,
}

impl<'a> Found<'a> {
    fn one(self) -> Option<&'a PriceSheet> {
        match self {
            Self::One(sheet) => Some(sheet),
            Self::Nothing | Self::Several => None,
        }
    }
}

/// A name to look for, at one provider or at any.
#[derive(Clone, Copy)]
struct Name<'a> {
    provider: Option<&'a str>,
    model: &'a str,
}

impl<'a> Name<'a> {
    fn undated(self) -> Option<Name<'a>> {
        undated(self.model).map(|model| Name { model, ..self })
    }
}

fn names(model: &str) -> [Option<Name<'_>>; 4] {
    let plain = Name { provider: None, model };
    let prefixed = split_provider(model);
    [Some(plain), prefixed, plain.undated(), prefixed.and_then(Name::undated)]
}

/// `openai/gpt-4o` and `router/openai/gpt-4o` alike are OpenAI's.
fn split_provider(model: &str) -> Option<Name<'_>> {
    let (path, model) = model.rsplit_once('/')?;
    let provider = path.rsplit_once('/').map_or(path, |(_, last)| last);
    Some(Name { provider: Some(provider), model })
}

/// The name without the whole date at its end; `None` without one. Shorter stamps such as `-0613`
/// stay: they cannot be told from other numbers.
fn undated(model: &str) -> Option<&str> {
    let compact = cut(model, "-YYYYMMDD").or_else(|| cut(model, "@YYYYMMDD"));
    compact.or_else(|| cut(model, "-YYYY-MM-DD")).filter(|rest| !rest.is_empty())
}

/// Takes a date of this shape off the end.
fn cut<'a>(model: &'a str, shape: &str) -> Option<&'a str> {
    let (rest, date) = model.split_at_checked(model.len().checked_sub(shape.len())?)?;
    let fits = date.bytes().zip(shape.bytes()).all(|(byte, wanted)| match wanted {
        b'Y' | b'M' | b'D' => byte.is_ascii_digit(),
        separator => byte == separator,
    });
    let mut digits = date.bytes().filter(u8::is_ascii_digit).map(|digit| u32::from(digit - b'0'));
    let mut number = |length: usize| digits.by_ref().take(length).fold(0, |value, digit| value * 10 + digit);
    let (year, month, day) = (number(4), number(2), number(2));
    let is_date = (2000..2100).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    (fits && is_date).then_some(rest)
}

fn age(sheet: &PriceSheet) -> (Millis, u32) {
    (sheet.effective_from, sheet.reference.version)
}

fn order(sheet: &PriceSheet) -> (&str, &str, (Millis, u32)) {
    (&sheet.provider, &sheet.model, age(sheet))
}
