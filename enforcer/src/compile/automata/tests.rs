use portcullis_policy::{Glob, HostPattern};
use portcullis_testkit::{Rng, seed};

use super::super::classes::Census;
use super::super::{hosts, paths};
use super::*;

/// Walks the cells as bpf/lib/policy.h does.
fn walk(table: &Table, classes: &Classes, start: u32, input: impl Iterator<Item = u8>) -> Accept {
    let state = |row: u32| match table.cells[row as usize] {
        Cell::State { default, accept } => (default, accept),
        other => panic!("{other:?} is no state"),
    };
    let mut row = start;
    for byte in input {
        if row == 0 {
            break;
        }
        row = match table.cells[row as usize + 1 + usize::from(classes.class(byte))] {
            Cell::Next { of, to } if of == row => to,
            _ => state(row).0,
        };
    }
    if row == 0 { Accept::Nothing } else { state(row).1 }
}

fn word(rng: &mut Rng) -> &'static str {
    rng.pick(&["a", "b", "ab", "ba", "aa", "v1", "c"]).unwrap()
}

fn segment(rng: &mut Rng) -> String {
    match rng.below(9) {
        0 | 1 => "**".to_owned(),
        2 => "{id}".to_owned(),
        3 => "*".to_owned(),
        4 => format!("{}*", word(rng)),
        5 => format!("*{}", word(rng)),
        6 => format!("{}*{}*{}", word(rng), word(rng), word(rng)),
        _ => word(rng).to_owned(),
    }
}

fn glob(rng: &mut Rng) -> Glob {
    let mut text: String = (0..rng.below(5)).map(|_| format!("/{}", segment(rng))).collect();
    if text.is_empty() || rng.one_in(4) {
        text += rng.pick(&["/", "/*", "/**"]).unwrap();
    }
    Glob::parse(&text).unwrap()
}

fn path(rng: &mut Rng) -> String {
    let mut path: String =
        (0..1 + rng.below(5)).map(|_| format!("/{}", if rng.one_in(5) { "xz" } else { word(rng) })).collect();
    if rng.one_in(4) {
        path += "/";
    }
    path
}

/// The table of one automaton over the paths of rules.
fn path_table(rules: &[(Glob, u8)]) -> (Table, Classes, usize) {
    let mut census = Census::new();
    let mut nfa = Nfa::default();
    for (glob, methods) in rules {
        paths::count(&mut census, glob);
        paths::add(&mut nfa, glob, *methods);
    }
    let classes = census.classes().unwrap();
    let ranked = rules.iter().zip(0..).map(|((_, methods), index)| RankedRule { index, methods: *methods });
    let mut automata = Automata::new(&classes);
    automata.add_paths("p", &nfa, &ranked.collect::<Vec<_>>()).unwrap();
    let before = automata.dfa.states().len();
    (automata.finish().unwrap(), classes, before)
}

#[test]
fn paths_are_matched_as_their_globs_say() {
    let mut rng = Rng::new(seed());
    for _ in 0..1500 {
        let rules: Vec<(Glob, u8)> = (0..rng.below(8))
            .map(|_| (glob(&mut rng), if rng.one_in(2) { 0xff } else { 1 << rng.below(8) }))
            .collect();
        let (table, classes, _) = path_table(&rules);
        for _ in 0..20 {
            let path = path(&mut rng);
            let mut expected = Set::default();
            for (method, first) in expected.iter_mut().enumerate() {
                let decides =
                    |(glob, methods): &(Glob, u8)| methods >> method & 1 == 1 && glob.matches(&path);
                *first = rules.iter().position(decides).map_or(0, |index| index as u32 + 1);
            }
            let found = match walk(&table, &classes, table.rows[0], path.bytes()) {
                Accept::Set(set) => table.sets[set as usize],
                Accept::Nothing => Set::default(),
                Accept::Policy(_) => panic!("a path accepts no policy"),
            };
            assert_eq!(found, expected, "{path} {rules:?}");
        }
    }
}

#[test]
fn the_best_host_pattern_decides() {
    let texts = ["a.example", "*.a.example", "*.example", "b.a.example", "*.b.a.example"];
    let patterns: Vec<HostPattern> = texts.iter().map(|text| HostPattern::parse(text).unwrap()).collect();
    let mut census = Census::new();
    patterns.iter().for_each(|pattern| hosts::count(&mut census, pattern));
    let classes = census.classes().unwrap();
    let mut ranked: Vec<_> = patterns.iter().zip(0..).collect();
    hosts::rank(&mut ranked);
    let policies: Vec<u32> = ranked.iter().map(|(_, policy)| *policy).collect();
    let mut automata = Automata::new(&classes);
    automata.add_hosts(&hosts::nfa(ranked.iter().map(|(pattern, _)| *pattern)), &policies).unwrap();
    let table = automata.finish().unwrap();
    for (host, expected) in [
        ("a.example", Some(0)),
        ("x.a.example", Some(1)),
        ("y.x.a.example", Some(1)),
        ("z.example", Some(2)),
        ("aa.example", Some(2)),
        ("b.a.example", Some(3)),
        ("c.b.a.example", Some(4)),
        ("example", None),
        (".example", None),
        ("a.example.test", None),
        ("", None),
    ] {
        let found = walk(&table, &classes, table.rows[0], host.bytes().rev());
        assert_eq!(found, expected.map_or(Accept::Nothing, Accept::Policy), "{host}");
    }
}

#[test]
fn minimisation_and_packing_save_room() {
    let rules: Vec<(Glob, u8)> = (0..200)
        .map(|i| (Glob::parse(&format!("/api/v{}/things-{i}/{{id}}/parts", i % 3)).unwrap(), 2u8 << (i % 5)))
        .collect();
    let (table, classes, before) = path_table(&rules);
    let dense = table.states * classes.count();
    println!("{before} states, minimised {}; {dense} cells, packed {}", table.states, table.cells.len());
    assert!(table.states < before);
    assert!(table.cells.len() < dense / 5);
}
