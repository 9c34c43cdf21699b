//! The models that the demo knows by name. Any other name is answered with itself.
//!
//! Ids are those of the vendors' public model lists; the dated one is what the vendor's answer names when it is
//! asked for the undated one.

/// One known model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KnownModel {
    /// The name that callers ask for.
    pub(crate) alias: &'static str,
    /// The name that answers carry.
    pub(crate) dated: &'static str,
    /// Whether part of its output is reasoning that is billed and not shown.
    pub(crate) reasons: bool,
}

/// Known models of the OpenAI imitation.
pub(crate) const OPENAI: [KnownModel; 6] = [
    KnownModel { alias: "gpt-4o", dated: "gpt-4o-2024-08-06", reasons: false },
    KnownModel { alias: "gpt-4o-mini", dated: "gpt-4o-mini-2024-07-18", reasons: false },
    KnownModel { alias: "gpt-4.1", dated: "gpt-4.1-2025-04-14", reasons: false },
    KnownModel { alias: "gpt-4.1-mini", dated: "gpt-4.1-mini-2025-04-14", reasons: false },
    KnownModel { alias: "gpt-5-mini", dated: "gpt-5-mini-2025-08-07", reasons: true },
    KnownModel { alias: "o4-mini", dated: "o4-mini-2025-04-16", reasons: true },
];

/// Known models of the Anthropic imitation.
pub(crate) const ANTHROPIC: [KnownModel; 3] = [
    KnownModel { alias: "claude-haiku-4-5", dated: "claude-haiku-4-5-20251001", reasons: false },
    KnownModel { alias: "claude-sonnet-4-5", dated: "claude-sonnet-4-5-20250929", reasons: false },
    KnownModel { alias: "claude-opus-4-5", dated: "claude-opus-4-5-20251101", reasons: false },
];

/// The known model behind a requested name, dated or not.
pub(crate) fn find<'a>(known: &'a [KnownModel], asked: &str) -> Option<&'a KnownModel> {
    known.iter().find(|model| model.alias == asked || model.dated == asked)
}
