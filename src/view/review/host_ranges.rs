//! Many host names in few words: `web[1-3,7]`, as `ClusterShell` folds them.

use std::collections::{BTreeMap, BTreeSet};

/// Folds names that differ only in numbers. Each result stands for exactly the names that went into
/// it; zero padding is kept. The order is that in which the first name of each result comes.
///
/// Names are taken as they are: whoever prints the result escapes them before.
pub fn fold_hosts<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    // By skeleton (the text around the numbers), with the place of the first name that has it.
    let mut families: BTreeMap<Vec<&str>, (usize, Vec<Vec<&str>>)> = BTreeMap::new();
    for (place, name) in names.into_iter().enumerate() {
        let (skeleton, numbers) = split(name);
        let (_, members) = families
            .entry(skeleton)
            .or_insert_with(|| (place, Vec::new()));
        members.push(numbers);
    }
    let mut folded: Vec<(usize, Vec<String>)> = families
        .into_iter()
        .map(|(skeleton, (place, members))| (place, fold_family(&skeleton, &members)))
        .collect();
    folded.sort_by_key(|(place, _)| *place);
    folded.into_iter().flat_map(|(_, names)| names).collect()
}

/// Text around the numbers, one piece more than there are numbers, and the numbers.
fn split(name: &str) -> (Vec<&str>, Vec<&str>) {
    // Brackets and commas are what folding adds, so a name that has any stays as it is.
    if name.contains(['[', ']', ',']) {
        return (vec![name], Vec::new());
    }
    let (mut skeleton, mut numbers) = (Vec::new(), Vec::new());
    let mut rest = name;
    loop {
        let start = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (text, tail) = rest.split_at(start);
        skeleton.push(text);
        if tail.is_empty() {
            return (skeleton, numbers);
        }
        let end = tail
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (number, tail) = tail.split_at(end);
        numbers.push(number);
        rest = tail;
    }
}

/// A number as it is written. Only equal widths make a range; width 0 stands for no padding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Number {
    width: usize,
    value: u64,
}

fn fold_family(skeleton: &[&str], members: &[Vec<&str>]) -> Vec<String> {
    let dimensions = skeleton.len() - 1;
    let padded: Vec<BTreeSet<usize>> = (0..dimensions)
        .map(|at| {
            members
                .iter()
                .map(|numbers| numbers[at])
                .filter(|text| text.len() > 1 && text.starts_with('0'))
                .map(str::len)
                .collect()
        })
        .collect();
    let mut literal = BTreeSet::new();
    let mut blocks: BTreeSet<Vec<BTreeSet<Number>>> = BTreeSet::new();
    for numbers in members {
        let parsed: Option<Vec<BTreeSet<Number>>> = numbers
            .iter()
            .enumerate()
            .map(|(at, text)| {
                // `100` among `001` and `099` is padded too, though it does not show.
                let width = if padded[at].contains(&text.len()) {
                    text.len()
                } else {
                    0
                };
                let value = text.parse().ok()?;
                Some(BTreeSet::from([Number { width, value }]))
            })
            .collect();
        match parsed {
            Some(block) => {
                blocks.insert(block);
            }
            // More digits than a number has.
            None => {
                literal.insert(spell(skeleton, numbers));
            }
        }
    }
    for at in (0..dimensions).rev() {
        blocks = merge(blocks, at);
    }
    blocks
        .into_iter()
        .map(|block| {
            let parts: Vec<String> = block.iter().map(range).collect();
            spell(skeleton, &parts)
        })
        .chain(literal)
        .collect()
}

/// Joins blocks that differ in one dimension only.
fn merge(
    blocks: BTreeSet<Vec<BTreeSet<Number>>>,
    dimension: usize,
) -> BTreeSet<Vec<BTreeSet<Number>>> {
    let mut joined: BTreeMap<Vec<BTreeSet<Number>>, BTreeSet<Number>> = BTreeMap::new();
    for mut block in blocks {
        let numbers = std::mem::take(&mut block[dimension]);
        joined.entry(block).or_default().extend(numbers);
    }
    joined
        .into_iter()
        .map(|(mut block, numbers)| {
            block[dimension] = numbers;
            block
        })
        .collect()
}

fn range(numbers: &BTreeSet<Number>) -> String {
    let text = |number: Number| format!("{:0width$}", number.value, width = number.width);
    let mut runs: Vec<(Number, Number)> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some((_, last))
                if last.width == number.width
                    && last.value.checked_add(1) == Some(number.value) =>
            {
                *last = number;
            }
            _ => runs.push((number, number)),
        }
    }
    let parts: Vec<String> = runs
        .iter()
        .map(|&(first, last)| {
            if first == last {
                text(first)
            } else {
                format!("{}-{}", text(first), text(last))
            }
        })
        .collect();
    match parts.as_slice() {
        [single] if numbers.len() == 1 => single.clone(),
        _ => format!("[{}]", parts.join(",")),
    }
}

fn spell(skeleton: &[&str], numbers: &[impl AsRef<str>]) -> String {
    let mut out = skeleton[0].to_owned();
    for (number, text) in numbers.iter().zip(&skeleton[1..]) {
        out.push_str(number.as_ref());
        out.push_str(text);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fold(names: &str) -> String {
        fold_hosts(names.split(' ')).join(" ")
    }

    #[test]
    fn consecutive_numbers_become_a_range() {
        assert_eq!(fold("web1 web2 web3 web7"), "web[1-3,7]");
        assert_eq!(fold("web10 web9 web8"), "web[8-10]");
        assert_eq!(fold("web1-eu web3-eu"), "web[1,3]-eu");
    }

    #[test]
    fn addresses_fold_in_the_part_that_differs() {
        assert_eq!(fold("127.0.0.11 127.0.0.12 127.0.0.13"), "127.0.0.[11-13]");
        assert_eq!(fold("10.0.0.1 10.0.1.1"), "10.0.[0-1].1");
    }

    #[test]
    fn zero_padding_is_kept() {
        assert_eq!(fold("n001 n002 n100 n099"), "n[001-002,099-100]");
        assert_eq!(fold("n1 n01 n02 n2"), "n[1-2,01-02]");
        assert_eq!(fold("n0 n1"), "n[0-1]");
    }

    #[test]
    fn several_numbers_fold_into_products_only_where_they_are_complete() {
        assert_eq!(fold("r1n1 r1n2 r2n1 r2n2"), "r[1-2]n[1-2]");
        assert_eq!(fold("r1n1 r1n2 r2n1"), "r1n[1-2] r2n1");
    }

    #[test]
    fn names_without_numbers_stay_in_their_order() {
        assert_eq!(fold("db web2 cache web1"), "db web[1-2] cache");
        assert_eq!(fold("db"), "db");
        assert!(fold_hosts([]).is_empty());
    }

    #[test]
    fn ipv6_addresses_fold_only_where_only_decimal_digits_differ() {
        assert_eq!(fold("fe80::1 fe80::2 fe80::a"), "fe80::[1-2] fe80::a");
        assert_eq!(fold("::1"), "::1");
    }

    #[test]
    fn names_that_look_folded_or_overflow_stay_as_they_are() {
        assert_eq!(fold("a[1-2] a3 a4"), "a[1-2] a[3-4]");
        let long = "x99999999999999999999999";
        assert_eq!(fold(&format!("{long} x1")), format!("x1 {long}"));
    }

    /// The names that a folded one stands for.
    fn expand(folded: &str) -> Vec<String> {
        let Some((before, rest)) = folded.split_once('[') else {
            return vec![folded.to_owned()];
        };
        let (ranges, after) = rest.split_once(']').expect("closed");
        let tails = expand(after);
        let mut out = Vec::new();
        for range in ranges.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let width = if first.starts_with('0') {
                first.len()
            } else {
                0
            };
            let bounds = |text: &str| text.parse::<u64>().expect("a number");
            for number in bounds(first)..=bounds(last) {
                let tail = |tail: &String| format!("{before}{number:0width$}{tail}");
                out.extend(tails.iter().map(tail));
            }
        }
        out
    }

    proptest::proptest! {
        #[test]
        fn folding_loses_and_invents_nothing(
            names in proptest::collection::btree_set("[ab]?[0-2]{0,3}[.-]?[0-9]{0,2}", 0..40)
        ) {
            let folded = fold_hosts(names.iter().map(String::as_str));
            let mut expanded: Vec<String> =
                folded.iter().flat_map(|folded| expand(folded)).collect();
            expanded.sort();
            proptest::prop_assert_eq!(expanded, Vec::from_iter(names));
        }
    }

    #[test]
    fn repeated_names_count_once() {
        assert_eq!(fold("a1 a1"), "a1");
    }
}
