//! What is written down of a run, so that it can be read afterwards and held against its repetition.

/// Lines of a run; none where nobody reads them.
#[derive(Debug, Default)]
pub struct Trace {
    lines: Option<Vec<String>>,
}

impl Trace {
    /// Keeps its lines where somebody will read them.
    pub fn new(kept: bool) -> Self {
        Self { lines: kept.then(Vec::new) }
    }

    /// Writes a line down, which is only made where it is kept.
    pub fn line(&mut self, at_ms: i64, what: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{at_ms:>7} {}", what()));
        }
    }

    /// The lines, in order.
    pub fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}
