//! The gate on the page of standards: what it names as tests is there.

use std::collections::BTreeSet;
use std::fs;

use crate::invocation::Invocation;

const PAGE: &str = "docs/standards.md";

/// Every test that the page names has to be a function somewhere, and no requirement may be without a word.
pub(crate) fn check() -> Result<(), String> {
    let page = fs::read_to_string(PAGE).map_err(|error| format!("{PAGE}: {error}"))?;
    let mut functions = BTreeSet::new();
    // With what is not committed yet, so that it is found in time.
    let files = Invocation::git("ls-files -z --cached --others --exclude-standard -- *.rs").output()?;
    for file in files.split_terminator('\0') {
        // Gone, but not yet from the index.
        let Ok(source) = fs::read_to_string(file) else { continue };
        functions.extend(defined(&source).map(str::to_owned));
    }
    let problems = problems(&page, &functions);
    if problems.is_empty() { Ok(()) } else { Err(format!("\n    {}", problems.join("\n    "))) }
}

fn problems(page: &str, functions: &BTreeSet<String>) -> Vec<String> {
    let mut problems = Vec::new();
    let mut count = 0;
    for (line, tests) in test_columns(page) {
        if tests.is_empty() {
            problems.push(format!("{PAGE}:{line}: neither a test nor why there is none"));
        }
        // Between the first two backticks, the next two, and so on.
        for name in tests.split('`').skip(1).step_by(2) {
            count += 1;
            if !functions.contains(name) {
                problems.push(format!("{PAGE}:{line}: there is no function `{name}`"));
            }
        }
    }
    if count == 0 {
        problems.push(format!("{PAGE} names no test"));
    }
    problems
}

/// The last cell of each row of a table, with its line; neither the names of columns nor what is below them.
fn test_columns(page: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut after_rows = false;
    (1..).zip(page.lines()).filter_map(move |(line, text)| {
        let row = text.trim().strip_prefix('|').and_then(|text| text.strip_suffix('|'));
        let is_first = !std::mem::replace(&mut after_rows, row.is_some());
        let (_, tests) = row?.rsplit_once('|')?;
        let is_rule = row?.chars().all(|c| "|-: ".contains(c)) && row?.contains('-');
        (!is_first && !is_rule).then(|| (line, tests.trim()))
    })
}

/// The names of the functions that a file defines.
fn defined(source: &str) -> impl Iterator<Item = &str> {
    let code = source.lines().map(str::trim_start).filter(|line| !line.starts_with("//"));
    code.filter_map(|line| {
        let (before, rest) = line.split_once("fn ")?;
        let (name, _) = rest.split_once('(')?;
        let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        (is_name && (before.is_empty() || before.ends_with(' '))).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE_WITH_TABLES: &str = "\
Not in a table: `nothing`.

| Requirement `of` it | Tests |
|---|---|
| one `member` | `a`, `b` |
| two | a server's business |

|Requirement|Tests|
| :-- | --: |
| three |`c`; `plain` is no function|
| four |  |
";

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_last_cells_of_rows_are_read() {
        let found: Vec<_> = test_columns(PAGE_WITH_TABLES).collect();
        let third = "`c`; `plain` is no function";
        assert_eq!(found, [(5, "`a`, `b`"), (6, "a server's business"), (10, third), (11, "")]);
    }

    #[test]
    fn what_is_not_there_is_named_with_its_line() {
        assert_eq!(
            problems(PAGE_WITH_TABLES, &set(&["a", "b", "c"])),
            [
                "docs/standards.md:10: there is no function `plain`",
                "docs/standards.md:11: neither a test nor why there is none",
            ]
        );
        let good = "| R | T |\n|---|---|\n| one | `a` |\n";
        assert!(problems(good, &set(&["a"])).is_empty());
        assert_eq!(problems(good, &set(&["b"])).len(), 1);
        assert_eq!(problems("# Nothing\n", &set(&["a"])), ["docs/standards.md names no test"]);
    }

    #[test]
    fn functions_are_found_where_they_are_defined() {
        let source = "\
fn one() {}
    async fn two(value: u8) {}
pub(crate) fn three() -> u8 { four() }
// fn five()
/// fn six()
fn seven<T>(it: T) {}
let fn_eight = often(nine());
";
        assert_eq!(defined(source).collect::<Vec<_>>(), ["one", "two", "three"]);
    }
}
