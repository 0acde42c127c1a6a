//! Orders to replicas, as requests under `/stand-in/` with the owner's token.

use scale_api::units::Span;
use scale_ring::Time;
use serde_json::{Value, json};

use super::ledger::Break;
use super::{Order, Replicas, What};
use crate::coder::access;
use crate::coder::deployment::Deployment;
use crate::coder::message::{Answer, Refusal, Request, Response};
use crate::coder::state::Role;

/// A restart takes so long, if nothing else is said.
const RESTART: Span = Span::from_secs(1);
/// From one of a roll to the next.
const ROLL_EVERY: Span = Span::from_secs(10);

impl Deployment {
    /// Answers a request to the stand-in itself.
    pub(in crate::coder) fn stand_in(&mut self, now: Time, request: &Request) -> Response {
        self.ordered(now, request).unwrap_or_else(Response::from)
    }

    fn ordered(&mut self, now: Time, request: &Request) -> Answer {
        let actor = access::actor(self, now, request)?;
        if !self.has_role(actor, Role::Owner) {
            return Err(Refusal::forbidden());
        }
        let wall = self.settings().wall_at_zero_ns;
        let segments: Vec<String> = request.segments();
        let path: Vec<&str> = segments.iter().map(String::as_str).collect();
        match (request.method.as_str(), path.as_slice()) {
            ("GET", ["stand-in", "replicas"]) => Ok(json_of(&self.replicas.rows())),
            ("GET", ["stand-in", "breaks"]) => Ok(json_of(&self.replicas.breaks(wall))),
            ("POST", ["stand-in", "replicas", "roll"]) => {
                let asked = Asked::of(request)?;
                let (away, every) = (asked.away.unwrap_or(RESTART), asked.every.unwrap_or(ROLL_EVERY));
                if every <= away {
                    return Err(wrong("`every` is no longer than `for`, so that all would be away at once"));
                }
                self.replicas.roll(
                    now,
                    asked.how.unwrap_or(What::Drain),
                    away,
                    every,
                    asked.version.as_deref(),
                );
                Ok(json_of(&self.replicas.rows()))
            }
            ("POST", ["stand-in", "replicas", number, verb]) => {
                let known =
                    number.parse().ok().filter(|&number| usize::from(number) < self.replicas.list.len());
                let number: u16 = known.ok_or_else(|| {
                    let last = self.replicas.list.len() - 1;
                    Refusal::new(404, format!("There is no replica {number}; take 0 to {last}."))
                })?;
                let asked = Asked::of(request)?;
                let told = self.replicas.order(now, number, verb, &asked)?;
                Ok(match told {
                    Some(number) => brief(&self.replicas.ledger.one(number, wall)),
                    None => json_of(&self.replicas.rows()[usize::from(number)]),
                })
            }
            _ => Err(Refusal::new(
                404,
                "Ask GET /stand-in/replicas or /stand-in/breaks, or POST /stand-in/replicas/NUMBER/VERB or /roll.",
            )),
        }
    }
}

impl Replicas {
    /// Does what `verb` says, and plans what is to follow it; the number of the break, where it is one.
    fn order(&mut self, now: Time, number: u16, verb: &str, asked: &Asked) -> Result<Option<usize>, Refusal> {
        let conflict = |error: String| Refusal::new(409, error);
        let start = Order::Start(asked.version.clone());
        let (order, next, away) = match verb {
            "kill" => (Order::Strike(What::Kill), start, asked.away),
            "drain" => (Order::Strike(What::Drain), start, asked.away),
            "cut" => (Order::Strike(What::Cut), start, asked.away),
            "freeze" => (Order::Strike(What::Freeze), Order::Thaw, asked.away),
            "restart" => {
                let how = asked.how.unwrap_or(What::Kill);
                (Order::Strike(how), start, Some(asked.away.unwrap_or(RESTART)))
            }
            "thaw" => (Order::Thaw, start, None),
            "start" => (start.clone(), start, None),
            _ => {
                let verbs = "kill, drain, freeze, thaw, cut, start or restart";
                return Err(wrong(&format!("`{verb}` is nothing that happens to a replica; take {verbs}")));
            }
        };
        if self.due.len() >= Self::DUE_MAX {
            return Err(conflict(format!("{} orders wait for their time; wait for them", Self::DUE_MAX)));
        }
        let told = self.act(now, number, order).map_err(conflict)?;
        // Whoever orders something takes back what was planned for this one.
        self.due.retain(|(_, replica, _)| *replica != number);
        if let Some(away) = away {
            self.plan(now.plus_ns(away.ns()), number, next);
        }
        Ok(told)
    }
}

/// What stands behind the `?`.
struct Asked {
    away: Option<Span>,
    every: Option<Span>,
    how: Option<What>,
    version: Option<String>,
}

impl Asked {
    fn of(request: &Request) -> Result<Self, Refusal> {
        let mut asked = Self { away: None, every: None, how: None, version: None };
        for (name, value) in form_urlencoded::parse(request.query.as_bytes()) {
            let span = || value.parse::<Span>().map(Some).map_err(|error| wrong(&format!("{name}: {error}")));
            match &*name {
                "for" => asked.away = span()?,
                "every" => asked.every = span()?,
                "how" => {
                    asked.how = Some(match &*value {
                        "kill" => What::Kill,
                        "drain" => What::Drain,
                        _ => return Err(wrong(&format!("how: `{value}` is neither kill nor drain"))),
                    });
                }
                "version" if scale_proto::http::header_is_valid("X-Coder-Build-Version", &value) => {
                    asked.version = Some(value.into_owned());
                }
                "version" => return Err(wrong("version: it cannot stand in a header")),
                // A token may stand in the query.
                access::SESSION => {}
                _ => return Err(wrong(&format!("`{name}` is not known; take for, every, how or version"))),
            }
        }
        Ok(asked)
    }
}

/// What an order has struck, without who.
fn brief(told: &Break) -> Response {
    let Break { replica, what, at, websockets, users, dropped, users_dropped, .. } = told;
    Response::json(
        200,
        &json!({
            "replica": replica,
            "what": what,
            "at": at,
            "websockets": websockets,
            "users": users,
            "dropped": dropped,
            "users_dropped": users_dropped,
        }),
    )
}

fn wrong(sentence: &str) -> Refusal {
    Refusal::new(400, sentence)
}

fn json_of(what: &impl serde::Serialize) -> Response {
    let value: Value =
        serde_json::to_value(what).unwrap_or_else(|error| json!({ "message": error.to_string() }));
    Response::json(200, &value)
}
