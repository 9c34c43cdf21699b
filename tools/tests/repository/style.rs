//! The house style, where a machine can tell: sizes, names, words and blanks.

use syn::visit::{self, Visit};

use crate::tree::{self, TextFile};

/// Beyond this a file is two files.
const FILE_LINES_MAX: usize = 500;
/// Tests read top to bottom and repeat themselves more.
const TEST_FILE_LINES_MAX: usize = 900;
/// One screen.
const FUNCTION_LINES_MAX: usize = 70;
/// Half of all functions are shorter than this.
const FUNCTION_LINES_MEDIAN_MAX: usize = 12;

/// A data file may be one endless line.
const EXCERPT_CHARS_MAX: usize = 120;

/// What is read by machines, or from the first line to the last like a book.
const UNBOUNDED_EXTENSIONS: &[&str] = &["json", "lock", "md"];
const UNBOUNDED_FILES: &[&str] = &["LICENSE"];

/// Includes what prost writes, which no lint of ours can please.
const MAY_ALLOW_LINTS: &[&str] = &["proto/src/lib.rs"];

/// Split, so that this file does not find itself. (Three X are missing here: ISO
/// 4217 uses them for no currency.)
const UNFINISHED_WORDS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME")];
const SILENCED_LINTS: &[&str] =
    &[concat!("#[", "allow("), concat!("#![", "allow("), concat!("#[", "ignore"), concat!("#[", "expect(")];
const MACHINE_PATHS: &[&str] = &[
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
    concat!("/wo", "rk/"),
    concat!("/t", "mp/"),
];

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";
const NPM: &str = "https://registry.npmjs.org/";

#[test]
fn files_are_short_enough_to_be_read_at_once() {
    let wrong: Vec<String> = tree::text_files()
        .iter()
        .filter(|file| file.line_count() > file_lines_max(file))
        .map(|file| format!("{}: {} lines", file.path, file.line_count()))
        .collect();
    assert!(wrong.is_empty(), "split: {wrong:#?}");
}

#[test]
fn functions_fit_on_a_screen() {
    let wrong: Vec<String> = tree::rust_files()
        .iter()
        .flat_map(functions)
        .filter(|function| function.lines > FUNCTION_LINES_MAX)
        .map(|function| format!("{}: {} lines", function.name, function.lines))
        .collect();
    assert!(wrong.is_empty(), "split: {wrong:#?}");
}

#[test]
fn the_median_function_is_short() {
    let mut lines: Vec<usize> = tree::rust_files()
        .iter()
        .filter(|file| !file.is_test())
        .flat_map(functions)
        .filter(|function| !function.is_test)
        .map(|function| function.lines)
        .collect();
    lines.sort_unstable();
    let median = lines[lines.len() / 2];
    assert!(median < FUNCTION_LINES_MEDIAN_MAX, "{median} lines, over {} functions", lines.len());
}

#[test]
fn a_module_lies_beside_its_folder() {
    let wrong: Vec<String> = tree::rust_files()
        .into_iter()
        .map(|file| file.path)
        .filter(|path| path.ends_with("/mod.rs"))
        .collect();
    assert!(wrong.is_empty(), "move to NAME.rs: {wrong:#?}");
}

#[test]
fn nothing_is_left_unfinished() {
    let wrong = lines_where(|_, line| words(line).any(|word| UNFINISHED_WORDS.contains(&word)));
    assert!(wrong.is_empty(), "finish: {wrong:#?}");
}

#[test]
fn no_lint_is_silenced_and_no_test_left_out() {
    let wrong = lines_where(|file, line| {
        file.extension() == "rs"
            && !MAY_ALLOW_LINTS.contains(&file.path.as_str())
            && SILENCED_LINTS.iter().any(|attribute| line.contains(attribute))
    });
    assert!(wrong.is_empty(), "do what the lint says: {wrong:#?}");
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    let wrong = lines_where(|_, line| MACHINE_PATHS.iter().any(|path| starts_a_word(line, path)));
    assert!(wrong.is_empty(), "use a relative path: {wrong:#?}");
}

#[test]
fn lines_end_where_their_text_ends_and_files_in_one_line_break() {
    let mut wrong = lines_where(|_, line| line.ends_with([' ', '\t', '\r']));
    let endless = |file: &TextFile| {
        !file.text.is_empty() && (!file.text.ends_with('\n') || file.text.ends_with("\n\n"))
    };
    wrong
        .extend(tree::text_files().into_iter().filter(endless).map(|file| format!("{}: its end", file.path)));
    assert!(wrong.is_empty(), "blanks: {wrong:#?}");
}

#[test]
fn lock_files_name_public_registries_alone() {
    let wrong = lines_where(|file, line| match file.path.rsplit('/').next() {
        Some("Cargo.lock") => line.starts_with("source = ") && !line.contains(CRATES_IO),
        Some("package-lock.json") => line.contains("\"resolved\":") && !line.contains(NPM),
        Some("requirements.txt" | "constraints.txt") => line.contains("://") || line.starts_with('-'),
        _ => false,
    });
    assert!(wrong.is_empty(), "a registry that others cannot reach: {wrong:#?}");
}

#[test]
fn the_measures_see_what_they_look_for() {
    let text = "fn one() {}\n\nimpl A {\n    fn three(&self) {\n        one();\n    }\n}\n\n#[cfg(test)]\nmod tests {\n    fn two() {\n    }\n}\n";
    let file = TextFile { path: "a.rs".to_owned(), text: text.to_owned() };
    let found: Vec<(String, usize, bool)> = functions(&file)
        .into_iter()
        .map(|function| (function.name, function.lines, function.is_test))
        .collect();
    let expected = [("a.rs:1 one", 1, false), ("a.rs:4 three", 3, false), ("a.rs:11 two", 2, true)]
        .map(|(name, lines, test)| (name.to_owned(), lines, test));
    assert_eq!(found, expected);
    assert!(starts_a_word(concat!("see /ho", "me/someone"), MACHINE_PATHS[0]));
    assert!(!starts_a_word(concat!("docs/ho", "me/page"), MACHINE_PATHS[0]));
}

/// One function with a body.
struct Function {
    /// `path:line name`.
    name: String,
    /// From its `fn` to its closing brace.
    lines: usize,
    is_test: bool,
}

struct FunctionReader<'file> {
    file: &'file TextFile,
    in_test_module: bool,
    found: Vec<Function>,
}

impl FunctionReader<'_> {
    fn note(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let start = signature.fn_token.span.start().line;
        let end = block.brace_token.span.close().end().line;
        self.found.push(Function {
            name: format!("{}:{start} {}", self.file.path, signature.ident),
            lines: end - start + 1,
            is_test: self.in_test_module,
        });
    }
}

impl<'ast> Visit<'ast> for FunctionReader<'_> {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        let before = self.in_test_module;
        self.in_test_module |= module.ident == "tests";
        visit::visit_item_mod(self, module);
        self.in_test_module = before;
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.note(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.note(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.note(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

fn functions(file: &TextFile) -> Vec<Function> {
    let parsed = syn::parse_file(&file.text).unwrap_or_else(|error| panic!("{}: {error}", file.path));
    let mut reader = FunctionReader { file, in_test_module: false, found: Vec::new() };
    reader.visit_file(&parsed);
    reader.found
}

fn file_lines_max(file: &TextFile) -> usize {
    if UNBOUNDED_FILES.contains(&file.path.as_str()) || UNBOUNDED_EXTENSIONS.contains(&file.extension()) {
        usize::MAX
    } else if file.is_test() {
        TEST_FILE_LINES_MAX
    } else {
        FILE_LINES_MAX
    }
}

/// `path:line: text` of every line that `matches`.
fn lines_where(matches: impl Fn(&TextFile, &str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for file in tree::text_files() {
        let hits = file.text.split('\n').enumerate().filter(|(_, line)| matches(&file, line));
        found.extend(hits.map(|(index, line)| format!("{}:{}: {}", file.path, index + 1, excerpt(line))));
    }
    found
}

/// Enough of a line to find it by.
fn excerpt(line: &str) -> String {
    line.chars().take(EXCERPT_CHARS_MAX).collect()
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|character: char| !character.is_alphanumeric() && character != '_')
}

/// Whether `path` occurs in `line` other than as the middle of a longer path.
fn starts_a_word(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        !line[..at].ends_with(|before: char| before.is_alphanumeric() || "._-~*}/".contains(before))
    })
}
