//! From runs to a verdict.
//!
//! A few figures decide, each by an interval so wide that all of them hold together (Bonferroni), and only
//! where the change is as large as matters. The others are shown with intervals of their own.

use std::collections::BTreeMap;

use scale_api::report::Exit;
use scale_api::threshold::Names;

use super::figures::Figure;
use super::result::{
    Answer, Comparison, Difference as Apart, Evidence, Limit, Needed, Outcome, Row, RunHead, SCHEMA, Scale,
    Side, Sides, Verdict, Word,
};
use super::run::Run;
use super::statistics::{Difference, Sample};
use super::{disruptions, plan};

/// Probability with which the intervals of all figures that decide hold together, and each other alone.
const CONFIDENCE: f64 = 0.95;
/// Runs a side from which the evidence is called good.
const GOOD_FROM: usize = 5;
/// Changes for which it is said how many runs see them.
const CHANGES: [f64; 3] = [0.05, 0.10, 0.20];
/// Differences of plans and hosts that are listed.
const DIFFERENCES_MAX: usize = 50;
/// Of a change of response time, so much at least must be the service's for it to be the target's.
const SERVICE_SHARE_MIN: f64 = 0.5;

/// What is asked beside the runs.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// `--max-regression`, as given: a figure's name and a share.
    pub regressions: Vec<String>,
    /// `--allow-difference`: words of the plan.
    pub allowed: Vec<String>,
}

/// A figure with what the runs say of it.
struct Judged {
    figure: Figure,
    /// Of each run, as its report has it and as it is compared.
    base: Vec<Option<(f64, Sample)>>,
    new: Vec<Option<(f64, Sample)>>,
    difference: Option<Difference>,
    /// What it may be worse by, where it was asked for: as given, and the share.
    limit: Option<(String, f64)>,
}

/// Compares two sides of one run at least.
///
/// # Errors
/// A `--max-regression` names nothing.
pub fn compare(base: &[Run], new: &[Run], asked: &Asked) -> Result<Comparison, String> {
    let first = &base[0];
    let all = || base.iter().chain(new);
    let mut judged = figures(first, base, new, asked)?;
    let family = judged.iter().filter(|it| it.decides() && it.difference.is_some()).count();
    let joint = 1.0 - (1.0 - CONFIDENCE) / family.max(1) as f64;
    let mut differences: Vec<Apart> = Vec::new();
    for other in all().skip(1) {
        let found = plan::differences(first, other, &asked.allowed);
        differences.extend(found.into_iter().filter(|it| !differences.contains(it)).collect::<Vec<_>>());
    }
    differences.sort_by_key(|it| !it.matters);
    let mut refusals: Vec<String> = all().filter_map(plan::unfit).collect();
    refusals.extend(differences.iter().filter(|it| it.matters).map(|it| {
        let word = it.what.rsplit_once(": ").map_or(String::new(), |(_, word)| {
            format!("; if that is meant: --allow-difference {}", word.replace('_', "-"))
        });
        format!("the plans differ: {} is {} and {}{word}", it.what, it.base, it.new)
    }));
    refusals.extend(judged.iter().filter_map(|it| it.lacks(base, new)));
    let refused = !refusals.is_empty();
    let mut rows: Vec<Row> = judged.iter().map(|it| it.row(joint, refused)).collect();
    let lateness = if refused { Vec::new() } else { blame_lateness(&mut rows) };
    let regressions: Vec<Limit> =
        judged.iter().zip(&rows).filter_map(|(it, row)| it.limit(row, joint)).collect();
    let evidence = match base.len().min(new.len()) {
        1 => Evidence::Weak,
        2..GOOD_FROM => Evidence::Moderate,
        _ => Evidence::Good,
    };
    let mut notes = notes(base, new, evidence);
    notes.extend(lateness.iter().filter(|(row, _)| !rows[*row].decides).map(|(_, why)| why.clone()));
    let undecided = lateness.into_iter().filter(|(row, _)| rows[*row].decides).map(|(_, why)| why).collect();
    let verdict = overall(refusals, undecided, &rows, &regressions, evidence);
    let runs_needed = judged.iter_mut().filter(|it| it.decides()).flat_map(|it| it.needed(joint)).collect();
    differences.truncate(DIFFERENCES_MAX);
    Ok(Comparison {
        schema: SCHEMA,
        verdict,
        notes,
        differences,
        base: heads(base),
        new: heads(new),
        figures: rows,
        disruptions: disruptions::shared(base, new),
        regressions,
        runs_needed,
        percentiles: Sides { base: curves(base), new: curves(new) },
        series: Sides {
            base: base.iter().map(Run::series).collect(),
            new: new.iter().map(Run::series).collect(),
        },
    })
}

/// Every figure that any run has, and what is asked for beside them.
fn figures(first: &Run, base: &[Run], new: &[Run], asked: &Asked) -> Result<Vec<Judged>, String> {
    let report = &first.report;
    let groups: Vec<&str> = report.groups.iter().map(|group| group.name.as_str()).collect();
    let observe: Vec<&str> = report.observe.keys().map(String::as_str).collect();
    let echoes = base.iter().chain(new).any(|run| run.report.latency.response.is_some());
    let mut figures: Vec<(Figure, Option<(String, f64)>)> =
        Figure::shown(&groups, &observe, echoes).into_iter().map(|figure| (figure, None)).collect();
    for expression in &asked.regressions {
        let wrong = |why: String| format!("--max-regression '{expression}': {why}");
        let (name, share) = expression
            .trim()
            .rsplit_once(char::is_whitespace)
            .ok_or_else(|| wrong("write it as 'response.p99 10%'".into()))?;
        let share = share
            .strip_suffix('%')
            .and_then(|percent| percent.parse::<f64>().ok())
            .map(|percent| percent / 100.0)
            .filter(|share| *share >= 0.0 && share.is_finite())
            .ok_or_else(|| wrong(format!("`{share}` is no share; write 10%")))?;
        let mut figure =
            Figure::named(name.trim(), &Names { groups: &groups, observe: &observe }).map_err(wrong)?;
        let limit = Some((expression.clone(), share));
        match figures.iter_mut().find(|(known, _)| known.name == figure.name) {
            Some((known, given)) => {
                known.decides = true;
                *given = limit;
            }
            None => {
                figure.decides = true;
                figures.push((figure, limit));
            }
        }
    }
    let judge = |(figure, limit): (Figure, Option<(String, f64)>)| {
        let sample = |run: &Run| Some((figure.read(&run.report)?, run.sample(&figure)?));
        let samples = |runs: &[Run]| runs.iter().map(sample).collect::<Vec<_>>();
        let (base, new) = (samples(base), samples(new));
        let known = base.iter().chain(&new).any(Option::is_some);
        let all = |samples: &[Option<(f64, Sample)>]| {
            samples.iter().map(|sample| Some((*sample)?.1)).collect::<Option<Vec<Sample>>>()
        };
        let difference = all(&base).zip(all(&new)).and_then(|(base, new)| {
            let middle = mean(base.iter().chain(&new).map(|sample| sample.value))?;
            Difference::new(&base, &new, figure.floor(figure.value(middle)))
        });
        (known || limit.is_some()).then_some(Judged { figure, base, new, difference, limit })
    };
    Ok(figures.into_iter().filter_map(judge).collect())
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    (count > 0.0).then(|| sum / count)
}

impl Judged {
    fn decides(&self) -> bool {
        self.figure.decides
    }

    /// A figure that decides, and has a value in some runs alone.
    fn lacks(&self, base: &[Run], new: &[Run]) -> Option<String> {
        let samples = self.base.iter().chain(&self.new);
        let run = base.iter().chain(new).zip(samples).find(|(_, sample)| sample.is_none())?.0;
        self.decides().then(|| format!("{} has no value in {}", self.figure.name, run.source))
    }

    fn row(&self, joint: f64, refused: bool) -> Row {
        let figure = &self.figure;
        let side = |samples: &[Option<(f64, Sample)>]| match samples {
            [only] => only.map(|(value, _)| value),
            all => {
                mean(all.iter().flatten().map(|(_, sample)| sample.value)).map(|value| figure.value(value))
            }
        };
        let each = |samples: &[Option<(f64, Sample)>]| {
            samples.iter().map(|sample| sample.map(|(value, _)| value)).collect()
        };
        let (base, new) = (side(&self.base), side(&self.new));
        let scaled = base.and_then(|base| figure.scaled(base)).zip(new.and_then(|new| figure.scaled(new)));
        let confidence = if self.decides() { joint } else { CONFIDENCE };
        let interval = self.difference.map(|difference| difference.interval(confidence));
        let verdict = match self.difference.zip(interval).zip(base) {
            Some(((difference, (low, high)), base)) if !refused => {
                let matters = figure.matters(difference.value, base);
                match (matters, low > 0.0, high < 0.0) {
                    (true, true, _) if figure.more_is_better => Word::Better,
                    (true, _, true) if !figure.more_is_better => Word::Better,
                    (true, true, _) | (true, _, true) => Word::Worse,
                    _ => Word::Same,
                }
            }
            _ => Word::Unknown,
        };
        Row {
            name: figure.name.clone(),
            group: figure.group().map(str::to_owned),
            unit: figure.unit(),
            better: if figure.more_is_better { "more" } else { "less" },
            base,
            new,
            base_runs: each(&self.base),
            new_runs: each(&self.new),
            scale: figure.scale,
            change: scaled.map(|(base, new)| figure.change(new - base)),
            low: interval.map(|(low, _)| figure.change(low)),
            high: interval.map(|(_, high)| figure.change(high)),
            least: figure.noise.least,
            decides: self.decides(),
            verdict,
        }
    }

    /// Judges what it may be worse by. `row`: what has been said of it so far.
    fn limit(&self, row: &Row, joint: f64) -> Option<Limit> {
        let (expression, limit) = self.limit.clone()?;
        let sign = if self.figure.more_is_better { -1.0 } else { 1.0 };
        // Worse is more, whatever the figure.
        let interval = self.difference.map(|difference| difference.interval(joint));
        let worse = |value: f64| sign * self.figure.change(value);
        let ends =
            interval.map(
                |(low, high)| if sign > 0.0 { (worse(low), worse(high)) } else { (worse(high), worse(low)) },
            );
        let value = row.change.map(|change| sign * change);
        let judged = row.verdict != Word::Unknown;
        let result = match (value, ends) {
            (Some(value), Some((low, _))) if judged && value > limit && low > 0.0 => Answer::Exceeded,
            (Some(value), Some(_)) if judged && value <= limit => Answer::Met,
            _ => Answer::Undecided,
        };
        Some(Limit {
            expression,
            name: self.figure.name.clone(),
            limit,
            worse: value,
            low: ends.map(|(low, _)| low),
            high: ends.map(|(_, high)| high),
            result,
        })
    }

    /// How many runs a side see what.
    fn needed(&self, joint: f64) -> Vec<Needed> {
        let Some(difference) = self.difference.filter(|_| self.figure.scale == Scale::Relative) else {
            return Vec::new();
        };
        let one = |change: f64| Needed {
            name: self.figure.name.clone(),
            change,
            runs: difference.runs_needed(change.ln_1p(), joint),
        };
        CHANGES.into_iter().map(one).collect()
    }
}

/// Takes back what was said of response times that changed because the generator was later or earlier
/// itself: the rows, and why.
fn blame_lateness(rows: &mut [Row]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for index in 0..rows.len() {
        let row = &rows[index];
        let Some(service) = row.name.contains("response.").then(|| row.name.replace("response.", "service."))
        else {
            continue;
        };
        let Some(service) = rows.iter().find(|row| row.name == service) else { continue };
        let moved = |row: &Row| Some(row.new? - row.base?);
        let (Some(of_response), Some(of_service)) = (moved(row), moved(service)) else { continue };
        let judged = matches!(row.verdict, Word::Better | Word::Worse);
        if judged && of_service / of_response < SERVICE_SHARE_MIN {
            let why = format!(
                "{} changed because the generator's own lateness did: {} changed by {:.0} % of that",
                row.name,
                service.name,
                100.0 * of_service / of_response
            );
            rows[index].verdict = Word::Unknown;
            found.push((index, why));
        }
    }
    found
}

fn overall(
    refusals: Vec<String>,
    undecided: Vec<String>,
    rows: &[Row],
    limits: &[Limit],
    evidence: Evidence,
) -> Verdict {
    let of = |outcome, exit: Exit, reasons| Verdict {
        outcome,
        exit_code: exit as u8,
        reasons,
        evidence,
        confidence: CONFIDENCE,
    };
    if !refusals.is_empty() {
        return of(Outcome::CannotJudge, Exit::Incomplete, refusals);
    }
    // What a figure may be worse by replaces the rule that is built in.
    let limited = |row: &Row| limits.iter().any(|limit| limit.name == row.name);
    let said = |word| rows.iter().filter(move |row| row.decides && row.verdict == word);
    let exceeded = limits.iter().filter(|limit| limit.result == Answer::Exceeded);
    let worse: Vec<String> = exceeded
        .map(|limit| {
            format!("{} is worse by {}, and {} was allowed", limit.name, reach(limit), percent(limit.limit))
        })
        .chain(said(Word::Worse).filter(|row| !limited(row)).map(sentence))
        .collect();
    if !worse.is_empty() {
        return of(Outcome::Worse, Exit::Failed, worse);
    }
    let mut reasons = undecided;
    reasons.extend(limits.iter().filter(|limit| limit.result == Answer::Undecided).map(|limit| match limit.worse {
        Some(_) if limit.low.is_none() => {
            format!("{}: one run does not tell how far it varies; give several runs a side (--base, --new)", limit.name)
        }
        Some(_) => format!(
            "{} seems worse by {}, and {} was allowed; it may be chance: give more runs a side (--base, --new)",
            limit.name,
            reach(limit),
            percent(limit.limit)
        ),
        None => format!("{} has no value", limit.name),
    }));
    if !rows.iter().any(|row| row.decides && row.verdict != Word::Unknown) && reasons.is_empty() {
        reasons
            .push("no figure that decides has an interval; make longer runs, or give several a side".into());
    }
    if !reasons.is_empty() {
        return of(Outcome::CannotJudge, Exit::Incomplete, reasons);
    }
    let better: Vec<String> = said(Word::Better).map(sentence).collect();
    if !better.is_empty() {
        return of(Outcome::Better, Exit::Passed, better);
    }
    of(Outcome::NoDifference, Exit::Passed, Vec::new())
}

/// A share or points, as people read them.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent.abs() < 9.95 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}

fn reach(limit: &Limit) -> String {
    let value = limit.worse.map_or("-".into(), percent);
    match limit.low.zip(limit.high) {
        Some((low, high)) => format!("{value} ({} to {})", percent(low), percent(high)),
        None => value,
    }
}

fn sentence(row: &Row) -> String {
    let word = if row.verdict == Word::Worse { "worse" } else { "better" };
    let unit = if row.scale == Scale::Points { "points" } else { "%" };
    let shown = |value: Option<f64>| value.map_or("-".into(), |value| percent(value).replace('%', unit));
    format!("{} is {word}: {} ({} to {})", row.name, shown(row.change), shown(row.low), shown(row.high))
}

fn notes(base: &[Run], new: &[Run], evidence: Evidence) -> Vec<String> {
    let mut notes = Vec::new();
    if evidence == Evidence::Weak {
        let sides = if base.len() == 1 && new.len() == 1 { "one run each" } else { "one run on a side" };
        notes.push(format!(
            "{sides}: the evidence is weak. How far runs of one plan lie apart on this host is assumed, not known; \
             make more and give them with --base and --new"
        ));
    }
    for run in base.iter().chain(new) {
        let seconds = run.report.generator.saturated_seconds;
        if seconds > 0 {
            notes.push(format!("{} was saturated for {seconds} s, too short to refuse it", run.source));
        }
    }
    notes
}

fn heads(runs: &[Run]) -> Side {
    let head = |run: &Run| {
        let (report, of) = (&run.report, &run.report.run);
        RunHead {
            id: of.id.clone(),
            name: of.name.clone(),
            source: run.source.clone(),
            started_at: of.started_at,
            ended_at: of.ended_at,
            version: of.version.clone(),
            kernel: of.kernel.clone(),
            outcome: report.verdict.outcome,
            exit_code: report.verdict.exit_code,
            saturated: report.generator.saturated,
            streams: report.load.streams_requested,
            steady_seconds: run.seconds(),
        }
    };
    Side { runs: runs.iter().map(head).collect() }
}

/// The curves of one side: where several runs know the same quantile, the geometric mean.
fn curves(runs: &[Run]) -> BTreeMap<String, Vec<[f64; 2]>> {
    let mut curves = runs[0].report.percentiles.clone();
    if runs.len() == 1 {
        return curves;
    }
    for (name, curve) in &mut curves {
        for point in curve.iter_mut() {
            let same = |run: &Run| {
                let curve = run.report.percentiles.get(name)?;
                curve
                    .iter()
                    .find(|other| (other[0] - point[0]).abs() < 1e-9)
                    .map(|other| other[1].max(1e-6).ln())
            };
            let values: Vec<f64> = runs.iter().filter_map(same).collect();
            point[1] = mean(values.into_iter()).map_or(point[1], f64::exp);
        }
    }
    curves
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::trial::{QUIET, run};

    fn of(base: &Run, new: &Run, regressions: &[&str]) -> Comparison {
        let regressions = regressions.iter().map(|&expression| expression.to_owned()).collect();
        compare(
            std::slice::from_ref(base),
            std::slice::from_ref(new),
            &Asked { regressions, allowed: Vec::new() },
        )
        .expect("figures are known")
    }

    fn row<'a>(it: &'a Comparison, name: &str) -> &'a Row {
        it.figures.iter().find(|row| row.name == name).expect("compared")
    }

    #[test]
    fn what_the_generators_own_lateness_did_is_not_the_targets() {
        let (base, mut new) = (run(1, 30, 1.0, QUIET), run(2, 30, 1.5, QUIET));
        assert_eq!(of(&base, &new, &[]).verdict.outcome, Outcome::Worse);
        // The same response times, and a service as fast as ever.
        new.report.latency.service = base.report.latency.service.clone();
        let it = of(&base, &new, &[]);
        assert_eq!((it.verdict.outcome, it.verdict.exit_code), (Outcome::CannotJudge, 6));
        assert!(it.verdict.reasons[0].contains("the generator's own lateness"), "{:?}", it.verdict);
        assert_eq!(row(&it, "response.p99").verdict, Word::Unknown);
        let it = of(&base, &new, &["response.p99 10%", "response.p50 10%"]);
        assert!(it.regressions.iter().all(|limit| limit.result == Answer::Undecided));
        assert_eq!(it.verdict.exit_code, 6);
    }

    #[test]
    fn a_ratio_is_worse_where_it_is_less_and_by_points() {
        let (base, mut new) = (run(1, 30, 1.0, QUIET), run(2, 30, 1.0, QUIET));
        new.report.load.delivered_ratio = Some(0.97);
        let it = of(&base, &new, &[]);
        assert_eq!((it.verdict.outcome, it.verdict.exit_code), (Outcome::Worse, 99));
        let ratio = row(&it, "load.delivered_ratio");
        assert!((ratio.change.expect("known") + 0.03).abs() < 1e-9 && ratio.verdict == Word::Worse);
        assert_eq!(of(&new, &base, &[]).verdict.outcome, Outcome::Better);
        let it = of(&base, &new, &["load.delivered_ratio 5%"]);
        assert_eq!((it.regressions[0].result, it.verdict.exit_code), (Answer::Met, 0));
        assert!((it.regressions[0].worse.expect("known") - 0.03).abs() < 1e-9, "worse is more");
    }

    #[test]
    fn a_figure_that_decides_and_is_missing_on_one_side_leaves_nothing_to_judge() {
        let (base, mut new) = (run(1, 30, 1.0, QUIET), run(2, 30, 1.0, QUIET));
        new.report.latency.response = None;
        let it = of(&base, &new, &[]);
        assert_eq!(it.verdict.outcome, Outcome::CannotJudge);
        assert!(it.verdict.reasons[0].contains("no value in r2"), "{:?}", it.verdict.reasons);
    }

    #[test]
    fn a_better_figure_does_not_make_up_for_a_worse_one() {
        let (base, mut new) = (run(1, 30, 1.0, QUIET), run(2, 30, 0.5, QUIET));
        new.report.load.disconnects.insert("reset".into(), 20);
        let it = of(&base, &new, &[]);
        assert_eq!((row(&it, "response.p99").verdict, it.verdict.outcome), (Word::Better, Outcome::Worse));
        assert!(
            it.verdict.reasons.iter().all(|reason| reason.contains("disconnects.rate is worse: 10 points"))
        );
    }

    #[test]
    fn more_figures_that_decide_make_each_interval_wider() {
        let (base, new) = (run(1, 30, 1.0, QUIET), run(2, 30, 1.0, QUIET));
        let width = |asked: &[&str]| {
            let it = of(&base, &new, asked);
            let row = row(&it, "response.p99");
            row.high.expect("known") - row.low.expect("known")
        };
        assert!(width(&["response.p90 10%", "response.p999 10%"]) > width(&[]));
    }
}
