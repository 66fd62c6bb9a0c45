//! One TOML table while it is read. Every question is remembered, so that what is left over was asked by nobody.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use toml::Value;

pub(super) struct Table {
    path: String,
    entries: toml::Table,
    known: Vec<&'static str>,
}

/// A whole file. The parser's own text quotes the line, and that line may hold a key.
pub(super) fn parsed(text: &str) -> Result<toml::Table, String> {
    text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        format!("line {line}: {}", error.message())
    })
}

impl Table {
    pub(super) fn new(path: String, entries: toml::Table) -> Self {
        Self { path, entries, known: Vec::new() }
    }

    /// Nothing was written here.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether something is written under this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// The full path of one of its keys.
    pub(super) fn at(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.entries.remove(key)
    }

    pub(super) fn text(&mut self, key: &'static str) -> Result<Option<String>, String> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
            Some(other) => Err(format!("{} is {}: write a text in quotes", self.at(key), shown(&other))),
        }
    }

    /// A text that no message shows, whatever stands there.
    pub(super) fn secret(&mut self, key: &'static str) -> Result<Option<String>, String> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
            Some(_) => Err(format!("{} is no text, or an empty one: write it in quotes", self.at(key))),
        }
    }

    /// `want`: what a right value looks like, for the message.
    pub(super) fn parsed<T: FromStr<Err: Display>>(
        &mut self,
        key: &'static str,
        want: &str,
    ) -> Result<Option<T>, String> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        let parsed = text.parse().map_err(|e| format!("{} is {text:?} ({e}): write {want}", self.at(key)))?;
        Ok(Some(parsed))
    }

    pub(super) fn number(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Result<u64, String> {
        let value = match self.take(key) {
            None => return Ok(default),
            Some(value) => value,
        };
        let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
        match number.filter(|number| range.contains(number)) {
            Some(number) => Ok(number),
            None => {
                let (from, to) = range.into_inner();
                Err(format!("{} is {}: write a whole number from {from} to {to}", self.at(key), shown(&value)))
            }
        }
    }

    /// `false` where nothing is written.
    pub(super) fn truth(&mut self, key: &'static str) -> Result<bool, String> {
        match self.take(key) {
            None => Ok(false),
            Some(Value::Boolean(word)) => Ok(word),
            Some(other) => Err(format!("{} is {}: write true or false", self.at(key), shown(&other))),
        }
    }

    pub(super) fn texts(&mut self, key: &'static str) -> Result<Vec<String>, String> {
        let Some(value) = self.take(key) else { return Ok(Vec::new()) };
        let texts = value
            .as_array()
            .and_then(|list| list.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<String>>>());
        texts.ok_or_else(|| {
            format!("{} is {}: write a list of texts, such as [\"a\", \"b\"]", self.at(key), shown(&value))
        })
    }

    /// A table below this one; an absent one is empty.
    pub(super) fn table(&mut self, key: &'static str) -> Result<Table, String> {
        let path = self.at(key);
        match self.take(key) {
            None => Ok(Table::new(path, toml::Table::new())),
            Some(Value::Table(entries)) => Ok(Table::new(path, entries)),
            Some(other) => Err(format!("{path} is {}: write a table, [{path}]", shown(&other))),
        }
    }

    /// Tables by names of the user's, such as `[trunks.trunk_main]`.
    pub(super) fn named(&mut self, key: &'static str) -> Result<Vec<(String, Table)>, String> {
        let parent = self.table(key)?;
        let mut named = Vec::new();
        for (name, value) in parent.entries {
            let path = format!("{}.{name}", parent.path);
            match value {
                Value::Table(entries) => named.push((name, Table::new(path, entries))),
                other => return Err(format!("{path} is {}: write a table, [{path}]", shown(&other))),
            }
        }
        Ok(named)
    }

    /// Either of both forms, with the names of those that have one.
    pub(super) fn rows_or_named(&mut self, key: &'static str) -> Result<Vec<(Option<String>, Table)>, String> {
        if self.entries.get(key).is_some_and(Value::is_array) {
            return Ok(self.rows(key)?.into_iter().map(|table| (None, table)).collect());
        }
        Ok(self.named(key)?.into_iter().map(|(name, table)| (Some(name), table)).collect())
    }

    /// Tables in a row, such as `[[keys]]`.
    pub(super) fn rows(&mut self, key: &'static str) -> Result<Vec<Table>, String> {
        let path = self.at(key);
        let rows = match self.take(key) {
            None => Vec::new(),
            Some(Value::Array(rows)) => rows,
            Some(other) => return Err(format!("{path} is {}: write [[{path}]]", shown(&other))),
        };
        let row = |(i, row)| match row {
            Value::Table(entries) => Ok(Table::new(format!("{path}[{i}]"), entries)),
            other => Err(format!("{path}[{i}] is {}: write [[{path}]]", shown(&other))),
        };
        rows.into_iter().enumerate().map(row).collect()
    }

    /// Everything was asked for: what is left is a mistake.
    pub(super) fn finish(self) -> Result<(), String> {
        let Some(left) = self.entries.keys().next() else { return Ok(()) };
        let nearest = nearest(left, self.known.iter().copied());
        let remedy = match nearest {
            Some(near) => format!("did you mean {}?", self.at(near)),
            None => format!("known here: {}", self.known.join(", ")),
        };
        Err(format!("{} is not a key: {remedy}", self.at(left)))
    }
}

/// The name that `text` was probably meant to be: at most a third of its letters differ, and never more than 3.
pub(super) fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (text.chars().count() / 3).clamp(1, 3);
    let by_distance = names.map(|name| (distance(text, name), name));
    by_distance.filter(|(distance, _)| *distance <= allowed).min().map(|(_, name)| name)
}

/// Levenshtein's, with a swap of neighbours as one step.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

/// A value as the user wrote it, or at least what kind of thing it is.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(word) => word.to_string(),
        other => format!("a {}", other.type_str()),
    }
}
