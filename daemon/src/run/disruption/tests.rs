use scale_api::disruption::{MARK_WINDOW, Recover, Storm};

use super::*;

const S: u64 = 1_000_000_000;

/// A run of one group whose streams are all open from its first second on, and of which two are each user's.
struct Run {
    all: Disruptions,
}

impl Run {
    fn of(streams: u32) -> Self {
        let mut all = Disruptions::new(vec![0]);
        let names: Vec<String> = (0..streams / 2).map(|user| format!("user {user}")).collect();
        all.set_users(Users::new([names.iter().map(String::as_str).collect()]));
        (0..streams).for_each(|number| push(&mut all, S / 2, number, What::Opened));
        Self { all }
    }

    /// `streams` lose their connection one after the other, within 100 ms.
    fn lose(&mut self, at: u64, streams: std::ops::Range<u32>) -> &mut Self {
        let count = u64::from(streams.end - streams.start);
        for (n, number) in streams.enumerate() {
            let loss = Loss { bytes_lost: Some(100), ..loss(Class::Reset) };
            push(&mut self.all, at + n as u64 * (S / 10) / count, number, What::Lost(loss));
        }
        self
    }

    fn back(&mut self, at: u64, streams: std::ops::Range<u32>) -> &mut Self {
        streams.for_each(|number| push(&mut self.all, at, number, What::Back(Back::default())));
        self
    }

    fn mark(&mut self, at: u64, text: &str) -> &mut Self {
        assert_eq!(self.all.mark(at, text, None), None, "nothing is counted aside");
        self
    }

    /// All of the run's first `seconds`, one by one, and each disruption as it then stands.
    fn told(&mut self, seconds: u64) -> Vec<Disruption> {
        (1..=seconds).for_each(|second| self.all.advance(second * S));
        self.all.told(DISRUPTIONS_MAX, |_| "main".into())
    }
}

fn push(all: &mut Disruptions, at: u64, number: u32, what: What) {
    all.push(Happened { at, stream: (0, number), what });
}

fn loss(class: Class) -> Loss {
    Loss { class, address: None, replica: None, version: None, bytes_lost: Some(0) }
}

fn hits(told: &[Disruption]) -> Vec<(Option<&str>, u64)> {
    told.iter().map(|one| (one.mark.as_deref(), one.streams_dropped)).collect()
}

#[test]
fn what_drops_after_a_mark_is_its_own_for_its_window() {
    let mut run = Run::of(100);
    run.mark(10 * S, "kill a replica").lose(12 * S, 0..50).back(15 * S, 0..40).back(20 * S, 40..49);
    run.lose(10 * S + MARK_WINDOW.ns() + 1, 60..63);
    let told = run.told(80);
    assert_eq!(told.len(), 1, "three more streams behind its window are no disruption");
    let one = &told[0];
    assert_eq!((one.at, one.marked_at, one.until), (10.0, Some(10.0), Some(70.0)));
    assert_eq!((one.streams, one.streams_dropped, one.share), (100, 50, Some(0.5)));
    // Streams n and n + 50 are one user's.
    assert_eq!((one.users, one.users_affected), (Some(50), Some(50)));
    assert_eq!((one.reconnected, one.never_back, one.bytes_lost, one.lost_unknown), (49, 1, 5000, 0));
    assert_eq!((one.by_class["reset"], one.by_group["main"], one.by_address["other"]), (50, 50, 50));
    let Recover { p50, p99, max } = one.recover.unwrap();
    assert!((p50 - 2.97).abs() < 1e-6 && (p99 - 7.92).abs() < 1e-6 && max >= p99, "{p50} {p99} {max}");
    assert_eq!((one.same_session, one.expected, one.delivered_ratio), (None, None, None));
}

#[test]
fn a_mark_without_drops_is_an_answer_too_and_the_next_one_ends_its_window() {
    let mut run = Run::of(20);
    run.mark(5 * S, "deploy").mark(8 * S, "kill").lose(9 * S, 0..2).back(30 * S, 0..2);
    let told = run.told(40);
    assert_eq!(hits(&told), [(Some("deploy"), 0), (Some("kill"), 2)]);
    assert_eq!((told[0].until, told[0].share, told[0].recover), (Some(8.0), Some(0.0), None));
    assert_eq!((told[1].until, told[1].never_back), (None, 0));
}

#[test]
fn a_twentieth_of_the_streams_and_at_least_five_at_once_are_one_that_nobody_marked() {
    for (streams, dropped, is_one) in
        [(100, 5, false), (100, 6, true), (20, 4, false), (20, 5, true), (1000, 50, false), (1000, 51, true)]
    {
        let told = Run::of(streams).lose(10 * S, 0..dropped).told(30);
        assert_eq!(!told.is_empty(), is_one, "{dropped} of {streams}");
        if is_one {
            assert_eq!((told[0].at, told[0].streams), (10.0, u64::from(streams)));
            assert_eq!((told[0].streams_dropped, told[0].never_back), (dropped.into(), dropped.into()));
            assert!((told[0].until.unwrap() - 10.1).abs() < 0.05, "{:?}", told[0].until);
        }
    }
    // As many, but not at once.
    let mut run = Run::of(100);
    for n in 0..10 {
        run.lose(10 * S + u64::from(n) * 2 * S, n..n + 1);
    }
    assert!(run.told(40).is_empty());
    // And one stream that drops again and again is one.
    let mut run = Run::of(100);
    for n in 0..10 {
        run.lose((10 + n) * S / 2, 0..1).back((10 + n) * S / 2 + S / 4, 0..1);
    }
    assert!(run.told(40).is_empty());
}

#[test]
fn it_goes_on_until_ten_seconds_have_had_no_drop() {
    let mut run = Run::of(100);
    run.lose(10 * S, 0..10)
        .lose(19 * S, 10..11)
        .lose(28 * S, 11..12)
        .lose(40 * S, 12..13)
        .back(60 * S, 0..13);
    let told = run.told(61);
    assert_eq!(hits(&told), [(None, 12)]);
    assert_eq!((told[0].until, told[0].reconnected, told[0].never_back), (Some(28.0), 12, 0));
}

#[test]
fn people_mark_late() {
    let told = Run::of(100).lose(10 * S, 0..50).mark(18 * S, "kill").lose(25 * S, 50..60).told(90);
    assert_eq!(hits(&told), [(Some("kill"), 60)]);
    assert_eq!((told[0].at, told[0].marked_at, told[0].until), (10.0, Some(18.0), Some(78.0)));
    // Too late: the mark has a disruption of its own.
    let mut run = Run::of(100);
    let told = run.lose(10 * S, 0..50).lose(17 * S, 50..51).mark(21 * S, "what was that?").told(90);
    assert_eq!(hits(&told), [(None, 51), (Some("what was that?"), 0)]);
    assert_eq!(told[0].until, Some(17.0));
    // The first few before the mark, the rest behind it: it began before its mark.
    let told = Run::of(100).lose(10 * S, 0..3).mark(11 * S, "kill").lose(12 * S, 3..50).told(90);
    assert_eq!(hits(&told), [(Some("kill"), 50)]);
    assert_eq!((told[0].at, told[0].streams), (10.0, 100));
    // Those few alone are none.
    let told = Run::of(100).lose(10 * S, 0..3).mark(11 * S, "kill").told(90);
    assert_eq!(hits(&told), [(Some("kill"), 0)]);
}

#[test]
fn a_drop_that_is_found_late_leaves_where_its_stream_stands_as_it_is() {
    let unknown = || What::Lost(Loss { bytes_lost: None, ..loss(Class::Reset) });
    let same =
        |bytes_lost| What::Back(Back { session: Some(Session::Same { bytes_lost }), ..Back::default() });
    for answer in [Some(3), None] {
        let mut run = Run::of(100);
        push(&mut run.all, 11 * S, 0, unknown());
        push(&mut run.all, 11 * S + S / 2, 0, same(answer));
        run.mark(12 * S, "kill").lose(13 * S, 0..1).lose(14 * S, 10..20);
        let one = run.told(20).pop().unwrap();
        // Those ten make the drop of before the mark one of its own; the stream has been away since another one.
        assert_eq!((one.at, one.streams_dropped, one.reconnected, one.never_back), (11.0, 11, 0, 11));
        assert_eq!((one.recover, run.all.away()), (None, 11));
        assert_eq!(one.bytes_lost, 1100 + answer.unwrap_or(0));
        assert_eq!(one.lost_unknown, u64::from(answer.is_none()), "its own return says how much it was");
        // Its time runs from the first drop to the last return.
        let one = run.back(22 * S, 0..1).told(24).pop().unwrap();
        assert_eq!((one.reconnected, one.recover.map(|it| it.max)), (1, Some(11.0)));
    }
}

#[test]
fn a_stream_counts_once_and_its_time_runs_from_its_first_drop_to_its_last_return() {
    let mut run = Run::of(100);
    run.mark(10 * S, "restart");
    run.lose(11 * S, 0..1).back(12 * S, 0..1).lose(13 * S, 0..1).back(16 * S, 0..1);
    let one = run.told(20).pop().unwrap();
    assert_eq!((one.streams_dropped, one.reconnected, one.bytes_lost), (1, 1, 200));
    assert!((one.recover.unwrap().max - 5.0).abs() < 1e-3);
    // Away again when it ends.
    run.lose(18 * S, 0..1);
    let one = run.told(21).pop().unwrap();
    assert_eq!((one.streams_dropped, one.reconnected, one.never_back, one.recover), (1, 0, 1, None));
}

#[test]
fn returns_behind_the_window_count_where_the_stream_was_dropped() {
    let mut run = Run::of(100);
    run.mark(10 * S, "one").lose(11 * S, 0..10).mark(20 * S, "two").lose(21 * S, 5..20).back(22 * S, 0..20);
    // Streams 5 to 9 are away since the first, so that the second has no drop of theirs: a lost stream has none.
    let mut run = Run::of(100);
    run.mark(10 * S, "one").lose(11 * S, 0..10).mark(20 * S, "two").back(22 * S, 0..10).lose(23 * S, 5..20);
    let told = run.told(30);
    assert_eq!(hits(&told), [(Some("one"), 10), (Some("two"), 15)]);
    assert_eq!((told[0].reconnected, told[0].never_back), (10, 0));
    assert_eq!((told[1].reconnected, told[1].never_back, told[1].streams), (0, 15, 90));
}

#[test]
fn whom_their_group_gives_up_is_neither_back_nor_away() {
    let mut run = Run::of(100);
    run.lose(10 * S, 0..3).mark(11 * S, "kill");
    // One of those that are found late, too.
    push(&mut run.all, 11 * S, 0, What::GivenUp);
    run.lose(12 * S, 3..50).back(15 * S, 3..20);
    (20..40).for_each(|number| push(&mut run.all, 20 * S, number, What::GivenUp));
    let one = run.told(30).pop().unwrap();
    assert_eq!((one.streams_dropped, one.reconnected, one.never_back, run.all.away()), (50, 17, 12, 12));
    // It is wanted again and opens: that is no return. Dropped once more it is away, and still one stream.
    push(&mut run.all, 31 * S, 20, What::Opened);
    let one = run.told(32).pop().unwrap();
    assert_eq!((one.streams_dropped, one.reconnected, one.never_back), (50, 17, 12));
    let one = run.lose(33 * S, 20..21).told(40).pop().unwrap();
    assert_eq!((one.streams_dropped, one.reconnected, one.never_back), (50, 17, 13));
    // Long after its window, likewise.
    push(&mut run.all, 90 * S, 45, What::GivenUp);
    let one = run.back(91 * S, 20..21).told(100).pop().unwrap();
    assert_eq!((one.streams_dropped, one.reconnected, one.never_back, run.all.away()), (50, 18, 11, 11));
    assert_eq!((one.bytes_lost, one.lost_unknown), (5100, 0), "what it cost is as it was");
    // The group's time is over: nobody waits for them, and they have never come back.
    run.all.end_group(0);
    assert_eq!((run.told(101)[0].never_back, run.all.away()), (11, 0));
}

#[test]
fn users_have_as_many_streams_as_they_have_and_are_hit_by_any_of_them() {
    let mut all = Disruptions::new(vec![0, 100]);
    all.set_users(Users::new([vec!["ann", "bob", "cid"], vec!["ann"]]));
    (0..4).for_each(|number| push(&mut all, S, number, What::Opened));
    all.push(Happened { at: S, stream: (1, 100), what: What::Opened });
    push(&mut all, 2 * S, 2, What::Closed);
    all.mark(10 * S, "kill", None);
    push(&mut all, 11 * S, 0, What::Lost(loss(Class::Closed)));
    all.push(Happened { at: 11 * S, stream: (1, 100), what: What::Lost(loss(Class::Reset)) });
    all.finish(20 * S);
    let one = all.told(1, |group| format!("group {group}")).pop().unwrap();
    assert_eq!((one.streams, one.users, one.users_affected), (4, Some(2), Some(1)));
    assert_eq!((one.by_group["group 0"], one.by_group["group 1"]), (1, 1));
    assert_eq!(one.until, Some(20.0), "the run's end is its end");
}

#[test]
fn a_session_says_what_was_lost_and_what_cannot_be_known_is_said() {
    let mut run = Run::of(100);
    run.mark(10 * S, "kill");
    let unknown = Loss { bytes_lost: None, ..loss(Class::CloseFrame) };
    for number in 0..5 {
        push(&mut run.all, 11 * S, number, What::Lost(unknown.clone()));
    }
    let sessions = [
        Session::Same { bytes_lost: Some(0) },
        Session::Same { bytes_lost: None },
        Session::New { bytes_lost: 30 },
        Session::Unknown,
    ];
    for (number, session) in sessions.into_iter().enumerate() {
        let back = Back { session: Some(session), bytes_repeated: 7, ..Back::default() };
        push(&mut run.all, 12 * S, number as u32, What::Back(back));
    }
    // Lost twice, and known both times.
    push(&mut run.all, 13 * S, 0, What::Lost(unknown));
    let back = Back { session: Some(Session::Same { bytes_lost: Some(5) }), ..Back::default() };
    push(&mut run.all, 14 * S, 0, What::Back(back));
    for seconds in [20, 80] {
        let one = run.told(seconds).pop().unwrap();
        assert_eq!((one.same_session, one.bytes_lost, one.bytes_repeated), (Some(2), 35, 28));
        // The cut replay, the unknown session, and the one that is away.
        assert_eq!((one.lost_unknown, one.never_back), (3, 1), "after {seconds} s");
    }
}

#[test]
fn replicas_addresses_and_versions_are_those_of_the_first_drop_and_the_last_return() {
    let mut run = Run::of(100);
    run.mark(10 * S, "roll");
    let address: SocketAddr = "10.0.0.1:443".parse().unwrap();
    for number in 0..10u32 {
        let replica = if number < 7 { "coderd-1" } else { "coderd-2" };
        let loss = Loss {
            address: Some(address),
            replica: Some(replica.into()),
            version: Some(if number < 6 { "v1" } else { "v2" }.into()),
            ..loss(Class::CloseFrame)
        };
        push(&mut run.all, 11 * S, number, What::Lost(loss));
        let back = Back { version: Some("v3".into()), ..Back::default() };
        push(&mut run.all, 12 * S, number, What::Back(back));
    }
    let one = run.told(100).pop().unwrap();
    assert_eq!((one.by_replica["coderd-1"], one.by_replica["coderd-2"]), (7, 3));
    assert_eq!(one.by_address["10.0.0.1:443"], 10);
    assert_eq!((one.version_before.as_deref(), one.version_after.as_deref()), (Some("v1"), Some("v3")));
}

#[test]
fn attempts_are_the_storm_of_those_who_are_away() {
    let mut run = Run::of(100);
    let attempts = |offered, answered| Attempts { seconds: 1, offered, refused: offered - answered };
    run.all.take_attempts(attempts(9, 9));
    run.mark(10 * S, "kill").lose(11 * S, 0..50).back(11 * S + S / 2, 0..10).back(13 * S, 10..50);
    for second in 1..=20 {
        run.all.advance(second * S);
        run.all.take_attempts(match second {
            12 => attempts(50, 10),
            14 => attempts(45, 40),
            _ => Attempts { seconds: 1, ..Attempts::default() },
        });
    }
    run.all.take_attempts(attempts(7, 7));
    let one = run.told(20).pop().unwrap();
    let Storm { offered, answered, refused, offered_per_second_max, answered_per_second_max } = one.storm;
    assert_eq!((offered, answered, refused), (95, 50, 45));
    assert_eq!((offered_per_second_max, answered_per_second_max), (50, 40));
    // Gone and back within a second.
    let mut run = Run::of(100);
    run.mark(10 * S, "kill").lose(11 * S, 0..50).back(11 * S + S / 2, 0..50);
    run.all.advance(12 * S);
    run.all.take_attempts(attempts(50, 50));
    assert_eq!(run.told(12)[0].storm.answered, 50);
}

#[test]
fn attempts_of_streams_that_are_none_of_its_own_are_no_storm_of_it() {
    let mut run = Run::of(100);
    run.mark(10 * S, "kill").lose(11 * S, 0..50).back(13 * S, 0..49);
    // One never comes back. Long after it streams are lost one at a time, and back at once.
    (100..200).for_each(|second| {
        run.lose(second * S, 60..61).back(second * S + S / 2, 60..61);
    });
    for second in 1..=200 {
        run.all.advance(second * S);
        let (offered, refused) = match second {
            14 => (50, 1),
            101.. => (1, 0),
            _ => (0, 0),
        };
        run.all.take_attempts(Attempts { seconds: 1, offered, refused });
    }
    let one = run.told(200).remove(0);
    assert_eq!((one.reconnected, one.never_back), (49, 1));
    assert_eq!((one.storm.offered, one.storm.answered, one.storm.refused), (50, 49, 1));
}

#[test]
fn a_window_that_was_expected_has_figures_of_its_own() {
    let mut run = Run::of(100);
    assert_eq!(run.all.mark(10 * S, "kill", Some(30 * S)), Some(0));
    run.all.asides().take(0, (100, 80), std::iter::empty());
    run.lose(35 * S, 0..1).lose(45 * S, 1..2);
    let one = run.told(50).pop().unwrap();
    assert_eq!((one.expected, one.delivered_ratio, one.streams_dropped), (Some(30.0), Some(0.8), 1));
    assert_eq!(run.all.mark(60 * S, "again", Some(30 * S)), Some(1));
    run.mark(70 * S, "and another");
    let told = run.told(80);
    assert_eq!((told[1].expected, told[1].until, told[2].expected), (Some(10.0), Some(70.0), None));
}

#[test]
fn seconds_of_which_a_part_was_expected_are_known_whatever_is_due_in_them() {
    let mut run = Run::of(10);
    run.all.mark(10 * S + S / 2, "kill", Some(30 * S));
    run.all.mark(20 * S + S / 4, "again", Some(10 * S));
    run.all.mark(50 * S, "not expected", None);
    let expected: Vec<u64> =
        (1..60).filter(|&second| run.all.is_expected((second - 1) as f64, second as f64)).collect();
    assert_eq!(expected, (11..=31).collect::<Vec<u64>>());
    assert!(run.all.is_expected(0.0, 11.0), "several seconds at once");
}

#[test]
fn a_group_that_has_ended_has_no_streams_open() {
    let mut run = Run::of(100);
    run.told(5);
    run.all.end_group(0);
    run.mark(10 * S, "kill");
    let one = run.told(20).pop().unwrap();
    assert_eq!((one.streams, one.users, one.share), (0, Some(0), None));
}

#[test]
fn there_are_so_many_at_most_and_the_rest_is_counted() {
    let mut run = Run::of(100);
    for mark in 0..DISRUPTIONS_MAX as u64 + 7 {
        run.mark((10 + mark) * S, "again");
    }
    run.lose(300 * S, 0..50);
    assert_eq!((run.told(400).len(), run.all.left_out()), (DISRUPTIONS_MAX, 8));
    // What drops long after such a mark is its own, as it would be if it were told.
    run.back(410 * S, 0..50).mark(420 * S, "kill").lose(450 * S, 0..50).back(460 * S, 0..50);
    run.told(500);
    assert_eq!(run.all.left_out(), 9);
    // And so is its mark who marks late.
    run.lose(510 * S, 0..50).mark(515 * S, "what was that?").lose(560 * S, 50..100);
    run.told(600);
    assert_eq!(run.all.left_out(), 10);
    assert_eq!(run.all.told(3, |_| String::new()).len(), 3);
}

/// Whatever the order of drops, returns and marks, nothing is counted twice.
#[test]
fn each_drop_is_in_at_most_one_and_what_is_away_is_away() {
    let mut random = crate::load::Random::new(7);
    for _ in 0..200 {
        let mut run = Run::of(40);
        let (mut open, mut drops) = (vec![true; 40], 0);
        let mut at = S;
        // The last mark, and each stream's last drop.
        let (mut mark, mut dropped) = (None, vec![None; 40]);
        // Some runs are slow, and some are marked seldom: there drops are found late.
        let (slowness, seldom) = (1 + random.below(6), [10, 50][random.below(2) as usize]);
        for _ in 0..300 {
            at += random.below(slowness * S);
            let stream = random.below(40) as u32;
            match random.below(seldom) {
                0 => {
                    run.mark(at, "now");
                    mark = Some(at);
                }
                _ if open[stream as usize] => {
                    run.lose(at, stream..stream + 1);
                    (open[stream as usize], drops) = (false, drops + 1);
                    dropped[stream as usize] = Some((at, mark));
                }
                _ => {
                    run.back(at, stream..stream + 1);
                    open[stream as usize] = true;
                }
            }
        }
        run.all.finish(at + 1);
        let told = run.all.told(DISRUPTIONS_MAX, |_| "main".into());
        let counted: u64 = told.iter().map(|one| one.streams_dropped).sum();
        let lost: u64 = told.iter().map(|one| one.bytes_lost).sum();
        assert!(counted <= drops && lost <= 100 * drops, "{counted} of {drops}");
        assert!(told.is_sorted_by(|one, next| one.until.unwrap() <= next.until.unwrap()));
        for one in &told {
            assert_eq!(one.reconnected + one.never_back, one.streams_dropped);
            assert_eq!(one.by_class.values().sum::<u64>(), one.streams_dropped);
            assert!(one.users_affected <= Some(one.streams_dropped));
        }
        let away: u64 = told.iter().map(|one| one.never_back).sum();
        let closed = || dropped.iter().zip(&open).filter(|(_, is_open)| !**is_open).map(|(last, _)| last);
        // A window is open for so long at least, or until the next mark: who was dropped in one last is away.
        let marked = |last: &&Option<(u64, Option<u64>)>| {
            last.is_some_and(|(at, mark)| mark.is_some_and(|mark| at < mark + MARK_WINDOW.ns()))
        };
        let (least, most) = (closed().filter(marked).count() as u64, closed().count() as u64);
        assert!((least..=most).contains(&away), "{away} of {least} to {most} are away");
        assert_eq!((run.all.away(), run.all.dropped()), (away, counted));
    }
}

/// A worker's side of it: where what is due around windows is counted.
mod counted_aside {
    use scale_api::spec::{GroupSpec, Spec};
    use scale_ring::Time;

    use crate::load::Group;
    use crate::run::plan::{Plan, tests::host};
    use crate::worker::timeline::Timeline;

    const TARGETS: [&str; 2] = ["ws://127.0.0.1:1/", "ws://127.0.0.1:2/"];

    fn group() -> Group {
        let spec = GroupSpec {
            name: "main".into(),
            target: TARGETS.map(str::to_owned).to_vec(),
            conns: Some(10),
            warm_up: Some("1s".parse().unwrap()),
            ramp: Some("1s".parse().unwrap()),
            ..GroupSpec::default()
        };
        let mut resolve = |_: &str, port: u16| Ok(vec![std::net::SocketAddr::from(([127, 0, 0, 1], port))]);
        let spec = Spec { group: vec![spec], ..Spec::default() };
        let plan = Plan::new(&spec, &host(), &Default::default(), &mut resolve).expect("a plan");
        plan.groups[0].clone()
    }

    fn at(seconds: u64) -> Time {
        Time::from_ns(seconds * super::S)
    }

    #[test]
    fn windows_take_turns_and_all_else_is_as_ever() {
        let group = group();
        let first = 100;
        let mut timeline = Timeline::new(&group, first, Time::ZERO, 0, 1);
        while timeline.next_step() <= at(5) {
            timeline.step(&group, at(5));
        }
        let (steady, aside) =
            (group.steady_cells(first), [0, 1, 2, 3].map(|turn| group.aside_cells(first, turn)));
        assert_eq!(aside[3].end, group.cells(first).end);
        timeline.set_aside(Some(0), at(10), at(20));
        timeline.set_aside(Some(1), at(30), at(60));
        // The next mark ends a window, and begins one, or none.
        timeline.set_aside(Some(2), at(40), at(50));
        for (due, place) in [
            (1, first..first + 2),
            (9, steady.clone()),
            (10, aside[0].clone()),
            (19, aside[0].clone()),
            (20, steady.clone()),
            (30, aside[1].clone()),
            (39, aside[1].clone()),
            (40, aside[2].clone()),
            (49, aside[2].clone()),
            (50, steady.clone()),
        ] {
            for target in [0, 1] {
                let cell = timeline.cell(at(due), target);
                assert_eq!(cell, place.start + usize::from(target), "due at {due} s");
                assert_eq!(timeline.is_steady(cell), place == steady, "due at {due} s");
                assert_eq!(group.stage_of(cell - first) > 0, place == steady, "due at {due} s");
                // What happens then is counted there, too.
                timeline.look(at(due));
                let now = if due == 1 { steady.start + usize::from(target) } else { cell };
                assert_eq!(timeline.cell_now(target), now, "at {due} s");
            }
        }
        timeline.set_aside(None, at(45), at(45));
        assert_eq!(timeline.cell(at(45), 0), steady.start, "a mark of which nothing was expected");
        assert_eq!(timeline.cell(at(44), 0), aside[2].start);
        timeline.set_aside(Some(4), at(70), at(80));
        assert_eq!(timeline.cell(at(71), 0), aside[0].start, "the first one's cells once more");
    }

    #[test]
    fn a_window_that_a_worker_has_none_of_is_counted_all_the_same() {
        let group = group();
        let mut timeline = Timeline::new(&group, 0, Time::ZERO, 0, 1);
        timeline.set_aside(Some(0), at(10), at(20));
        // It was over before the worker heard of it.
        timeline.set_aside(Some(1), at(31), at(30));
        timeline.set_aside(Some(2), at(40), at(50));
        assert_eq!(timeline.cell(at(12), 0), group.aside_cells(0, 0).start);
        assert_eq!(timeline.cell(at(42), 0), group.aside_cells(0, 2 % Group::ASIDE).start);
        assert_eq!(timeline.cell(at(31), 0), timeline.cell(at(25), 0), "nothing of it is left");
    }
}
