//! A seed becomes a run: what flows where, what goes wrong, and who says what when.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use scale_bench::sink;
use scale_proto::coder::{Echo, Form, Route, TerminalRequest, Uuid};
use scale_proto::tls::{ClientSettings, client_config, server_config};
use scale_proto::ws::Opcode;
use scale_ring::sim::Faults;
use scaled::load::endpoint::TlsName;
use scaled::load::reconnect::WEB_TERMINAL;
use scaled::load::ways::Way;
use scaled::load::{
    Endpoint, Group, MessageSize, Payload, Protocol, Random, Reconnect, Stage, Terminal, TickOffset, Traffic,
    Ways,
};
use scaled::worker::gate::Gates;
use scaled::worker::share::Addresses;

use crate::changes;
use crate::cuts::{self, What};
use crate::ssh::{self, On, Parts};

pub const MS: u64 = 1_000_000;
/// Streams that a group may have, whatever is said.
const CONNS_MAX: u32 = 60;

/// How much goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Nothing, and nobody says anything.
    Calm,
    /// Everything takes long and comes in pieces, but no connection is harmed.
    Bumpy,
    /// Anything may happen at any time.
    Stormy,
}

/// What somebody says to all workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    Drain,
    Abort,
    Pause,
    Resume,
    Conns(usize, u32),
    Pace(usize, u64, u32),
    /// The window of this number: for so long, in ns, disruptions are expected.
    Expect(usize, u64),
}

/// Somebody gets no turn for a while.
#[derive(Debug, Clone, Copy)]
pub struct Stall {
    /// Workers first, then servers.
    pub actor: usize,
    pub from_ns: u64,
    pub for_ns: u64,
}

/// A server.
#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    pub group: usize,
    pub settings: sink::Settings,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sink::Settings { protocol, traffic, delay_ns, close_after_ns, ping_ns, stall, .. } =
            &self.settings;
        write!(f, "{} for group {}: {protocol:?} {traffic:?}", self.address, self.group)?;
        write!(f, " delay {delay_ns} ns, close after {close_after_ns:?}, ping {ping_ns:?}, stall {stall}")
    }
}

/// Everything that a seed decides before the run.
pub struct Scenario {
    pub seed: u64,
    pub faults: Faults,
    pub weather: Weather,
    pub workers: u32,
    pub groups: Arc<[Group]>,
    pub endpoints: Arc<[Endpoint]>,
    pub addresses: Addresses,
    /// What holds new connections to caps.
    pub gates: Gates,
    pub servers: Vec<Server>,
    pub words: Vec<(u64, Word)>,
    pub stalls: Vec<Stall>,
    /// Disruptions: see [`crate::cuts`].
    pub cuts: Vec<(u64, What)>,
    pub streams_max: usize,
}

impl std::fmt::Debug for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Scenario");
        out.field("seed", &self.seed).field("weather", &self.weather).field("faults", &self.faults);
        out.field("workers", &self.workers).field("servers", &self.servers);
        out.field("gates", &self.gates.rates_milli);
        out.field("addresses", &self.addresses).field("words", &self.words).field("stalls", &self.stalls);
        out.field("cuts", &self.cuts);
        for group in self.groups.iter() {
            let stages: Vec<_> = group
                .stages
                .iter()
                .map(|s| (s.conns, s.tick_ns / MS, s.message, s.over_ns / MS, s.hold_ns.map(|ns| ns / MS)))
                .collect();
            out.field(
                &group.name,
                &format_args!(
                    "{:?} {:?} conns {} start {} ramp {} warm-up {} drain {} timeout {} ms, stages \
                     (conns, tick ms, bytes, over, hold) {stages:?}, {:?} churn {} concurrency {:?} \
                     verify {} first {}",
                    group.traffic,
                    group.tick_offset,
                    group.conns,
                    group.start_ns / MS,
                    group.ramp_ns / MS,
                    group.warm_up_ns / MS,
                    group.drain_ns / MS,
                    group.connect_timeout_ns / MS,
                    group.reconnect,
                    group.churn_milli,
                    group.concurrency,
                    group.verify,
                    group.first_message.is_some(),
                ),
            );
        }
        out.finish()
    }
}

/// One choice after another.
pub struct Dice(Random);

impl Dice {
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.0.below(most - least + 1)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.0.below(100) < percent
    }

    pub fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.0.below(choices.len() as u64) as usize]
    }

    /// 0 most of the time, else up to `most`.
    fn rare(&mut self, percent: u64, most: u64) -> u64 {
        if self.chance(percent) { self.between(1, most) } else { 0 }
    }
}

/// Certificate and key, made once: Ed25519, whose signatures all have the same length.
fn pki() -> &'static (String, String) {
    static PKI: OnceLock<(String, String)> = OnceLock::new();
    PKI.get_or_init(|| {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let cert = params.self_signed(&key).expect("a certificate");
        (cert.pem(), key.serialize_pem())
    })
}

impl Scenario {
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice(Random::new(seed ^ 0x5CA1_AB1E));
        let weather =
            dice.of(&[Weather::Calm, Weather::Bumpy, Weather::Bumpy, Weather::Stormy, Weather::Stormy]);
        let mut scenario = Self {
            seed,
            faults: faults(&mut dice, weather),
            weather,
            workers: dice.of(&[1, 1, 1, 2, 3]),
            groups: Arc::new([]),
            endpoints: Arc::new([]),
            addresses: Arc::new([]),
            gates: Gates::default(),
            servers: Vec::new(),
            words: Vec::new(),
            stalls: Vec::new(),
            cuts: Vec::new(),
            streams_max: 0,
        };
        let mut tables = Tables::default();
        let count = dice.of(&[1, 1, 1, 2, 3]);
        let mut groups: Vec<Group> =
            (0..count).map(|n| group(n, &mut dice, &scenario, &mut tables)).collect();
        // Dice of their own, as below.
        let mut others = Dice(Random::new(seed ^ 0xC075));
        cuts::clients(&mut others, &mut groups);
        let workers = scenario.workers;
        scenario.cuts = cuts::cuts(&mut others, (weather, workers), &mut groups, &tables.servers);
        let end_ns = groups.iter().map(planned_end_ns).max().unwrap_or(0);
        if weather == Weather::Stormy {
            scenario.words = words(&mut dice, &groups, end_ns);
            let actors = u64::from(scenario.workers) + tables.servers.len() as u64;
            for _ in 0..dice.rare(30, 3) {
                scenario.stalls.push(Stall {
                    actor: dice.between(0, actors - 1) as usize,
                    from_ns: dice.between(0, end_ns),
                    for_ns: dice.between(1, 1500) * MS,
                });
            }
        }
        if groups.iter().any(|group| group.stages.last().is_some_and(|stage| stage.hold_ns.is_none())) {
            let last = scenario.words.last().map_or(0, |(at, _)| *at);
            scenario.words.push((last.max(end_ns), Word::Drain));
        }
        let mut others = Dice(Random::new(seed ^ 0xA51D));
        scenario.words.extend(changes::expected(&mut others, weather, end_ns));
        scenario.words.sort_by_key(|(at, _)| *at);
        scenario.streams_max = groups.iter().map(|g| g.conns_max() as usize).sum::<usize>() + count * 64;
        scenario.groups = groups.into();
        scenario.endpoints = tables.endpoints.into();
        scenario.addresses = tables.addresses.into();
        // Dice of their own: what else a seed says stays what it is.
        let mut dice = Dice(Random::new(seed ^ 0x6A7E));
        if weather == Weather::Stormy && dice.chance(10) {
            let row = |_: &Vec<SocketAddr>| -> Box<[u16]> { [0].into() };
            scenario.gates = Gates {
                rates_milli: [dice.between(1, 300) * 1000].into(),
                rows: scenario.addresses.iter().map(row).collect(),
            };
        }
        scenario.servers = tables.servers;
        scenario
    }

    /// No later than this after its start the run is over, in ns.
    pub fn longest_ns(&self) -> u64 {
        let planned = self.groups.iter().map(planned_end_ns).max().unwrap_or(0);
        let said = self.words.iter().map(|(at, _)| *at).max().unwrap_or(0);
        let drain = self.groups.iter().map(|group| group.drain_ns).max().unwrap_or(0);
        let stalled: u64 = self.stalls.iter().map(|stall| stall.for_ns).sum();
        // Whoever pauses resumes, and that is a word, too. Closing takes 10 s at the most, where a
        // program is to end by itself, and 2 s for its connection.
        planned + 2 * said + drain + stalled + 15_000 * MS
    }
}

/// When a group's drain is over if nobody says anything; what has no end, at its last known point.
fn planned_end_ns(group: &Group) -> u64 {
    let stages: u64 =
        group.stages.iter().map(|stage| stage.over_ns + stage.hold_ns.unwrap_or(500 * MS)).sum();
    group.start_ns + group.ramp_ns + group.warm_up_ns + stages + group.drain_ns
}

fn faults(dice: &mut Dice, weather: Weather) -> Faults {
    if weather == Weather::Calm {
        return Faults::NONE;
    }
    let least = dice.between(1, 2_000_000);
    let bumpy = Faults {
        latency_ns: (least, least + dice.rare(50, 30 * MS)),
        spike_per_mille: dice.rare(20, 50),
        spike_ns: dice.between(1, 800) * MS,
        completion_delay_ns: dice.rare(50, 3 * MS),
        split_per_mille: dice.rare(40, 900),
        short_send_per_mille: dice.rare(30, 500),
        lost_multishot_per_mille: dice.rare(30, 500),
        address_in_use_per_mille: dice.rare(15, 700),
        buffers: dice.of(&[2, 8, 64, 512]),
        buffer_bytes: dice.of(&[64, 512, 4096, 4096, 32768]),
        window_bytes: dice.of(&[2048, 16 << 10, 256 << 10, 4 << 20]),
        ..Faults::NONE
    };
    if weather == Weather::Bumpy {
        return bumpy;
    }
    Faults {
        refuse_per_mille: dice.rare(15, 400),
        silence_per_mille: dice.rare(10, 300),
        reset_per_mille: dice.rare(20, 30),
        end_per_mille: dice.rare(15, 30),
        sockets_max: if dice.chance(10) { dice.between(2, 20) as usize } else { usize::MAX },
        ..bumpy
    }
}

fn words(dice: &mut Dice, groups: &[Group], end_ns: u64) -> Vec<(u64, Word)> {
    let mut words = Vec::new();
    for _ in 0..dice.rare(50, 6) {
        let at = dice.between(0, end_ns);
        let group = dice.between(0, groups.len() as u64 - 1) as usize;
        match dice.between(0, 6) {
            0 => words.push((at, Word::Drain)),
            1 => words.push((at, Word::Abort)),
            2 | 3 => {
                words.push((at, Word::Pause));
                words.push((at + dice.between(1, 800) * MS, Word::Resume));
            }
            4 | 5 => words.push((at, Word::Conns(group, dice.between(1, u64::from(CONNS_MAX)) as u32))),
            _ => {
                let tick = dice.between(5, 200) * MS;
                words.push((at, Word::Pace(group, tick, dice.between(1, 6000) as u32)));
            }
        }
    }
    words.sort_by_key(|(at, _)| *at);
    words
}

#[derive(Default)]
struct Tables {
    endpoints: Vec<Endpoint>,
    addresses: Vec<Vec<SocketAddr>>,
    servers: Vec<Server>,
}

fn group(number: usize, dice: &mut Dice, scenario: &Scenario, tables: &mut Tables) -> Group {
    let Scenario { weather, seed, faults, .. } = scenario;
    let (calm, stormy, seed) = (*weather == Weather::Calm, *weather == Weather::Stormy, *seed);
    let protocol = dice.of(&[
        Protocol::Ws,
        Protocol::Ws,
        Protocol::Ws,
        Protocol::Tcp,
        Protocol::Wss,
        Protocol::Ssh,
        Protocol::Ssh,
    ]);
    let upgrades = matches!(protocol, Protocol::Ws | Protocol::Wss);
    let encrypted = matches!(protocol, Protocol::Wss | Protocol::Ssh);
    let traffic = dice.of(&[Traffic::Echo, Traffic::Echo, Traffic::Echo, Traffic::Discard, Traffic::Receive]);
    let conns = dice.between(1, if encrypted { 8 } else { 40 }) as u32;
    let tick_ns = dice.between(5, 250) * MS;
    // What a ring can receive at once: large messages in tiny buffers take long to simulate.
    let room = u64::from(faults.buffers) * u64::from(faults.buffer_bytes);
    let most = if dice.chance(5) { 200_000 } else { 6000 };
    let bytes = dice.between(1, most).min(room);
    let base = MessageSize::fixed(bytes as u32);
    let mut stages = vec![Stage {
        conns,
        tick_ns,
        bytes_per_second: None,
        message: base,
        over_ns: 0,
        hold_ns: Some(dice.between(100, 1500) * MS),
    }];
    if stormy && dice.chance(30) {
        for _ in 0..dice.between(1, 2) {
            let rated = dice.chance(50);
            let tick_ns = if rated { tick_ns } else { dice.between(5, 250) * MS };
            let rate = dice.between(1000, 100_000.min(10 * room));
            let message = rated.then(|| MessageSize::from_rate(rate, tick_ns)).flatten();
            stages.push(Stage {
                conns: dice.between(1, 40) as u32,
                tick_ns,
                bytes_per_second: message.map(|_| rate),
                message: message.unwrap_or(base),
                over_ns: dice.of(&[0, 300, 2300]) * MS,
                hold_ns: Some(dice.between(100, 800) * MS),
            });
        }
    }
    if stormy && dice.chance(5) {
        stages.last_mut().expect("there is one").hold_ns = None;
    }
    let text = dice.chance(20);
    let typed = !text && protocol != Protocol::Tcp && dice.chance(30);
    let form = if typed { dice.of(&[Form::Line, Form::Line, Form::Comment]) } else { Form::Line };
    let types = typed && traffic == Traffic::Echo && dice.chance(70);
    let on = if types && protocol == Protocol::Ssh { On::Terminal } else { On::Pipe };
    let terminal = (types && protocol != Protocol::Ssh).then(|| {
        let echo = dice.of(&[Echo::Cooked, Echo::Raw]);
        let comment = form == Form::Comment && echo == Echo::Cooked;
        Terminal { echo, comment, fast_close: dice.chance(30) }
    });
    let ssh = (protocol == Protocol::Ssh).then(|| ssh::parts(dice, *weather, (traffic, on), bytes as u32));
    let endpoints = endpoints(number, protocol, (traffic, terminal), ssh.as_ref(), dice, *weather, tables);
    let payload = if typed {
        match terminal {
            Some(Terminal { echo, .. }) => Payload::typed(seed, form, Route::Terminal, echo),
            None => {
                let echo = if on == On::Terminal { Echo::Cooked } else { Echo::Raw };
                Payload::typed(seed, form, Route::App, echo)
            }
        }
    } else if text {
        Payload::text(seed)
    } else {
        Payload::random(seed)
    };
    Group {
        name: format!("group{number}").into(),
        targets: vec![format!("target{number}").into()],
        pattern: endpoints.into(),
        first_stream: dice.rare(20, 1000) as u32,
        traffic,
        tick_offset: dice.of(&[TickOffset::Spread, TickOffset::Aligned, TickOffset::Random]),
        start_ns: dice.rare(20, 400) * MS,
        conns,
        ramp_ns: dice.rare(70, 500) * MS,
        connect_rate_milli: dice.between(10_000, 1_000_000),
        concurrency: dice.chance(15).then(|| dice.between(1, 10) as u32),
        // Long enough for every stream to be open before it counts, where nothing goes wrong.
        warm_up_ns: if calm { dice.between(100, 300) } else { dice.rare(50, 300) } * MS,
        stages,
        // Long enough for every answer, where no connection is harmed.
        drain_ns: if stormy { dice.rare(80, 1500) } else { 60_000 } * MS,
        connect_timeout_ns: if stormy { dice.between(200, 3000) } else { 60_000 } * MS,
        reconnect: dice.of(&[Reconnect::Never, Reconnect::Backoff, Reconnect::Client(&WEB_TERMINAL)]),
        churn_milli: if stormy { dice.rare(20, 50_000) } else { 0 },
        breaker_milli: None,
        silence_ns: None,
        verify: dice.chance(50),
        opcode: if text { Opcode::Text } else { Opcode::Binary },
        subprotocol: (upgrades && dice.chance(20)).then(|| "scale".into()),
        replica_header: None,
        first_message: (!typed && dice.chance(15))
            .then(|| Payload::fixed(&vec![b'f'; dice.between(1, 300) as usize])),
        payload,
        terminal,
        ssh: ssh.map(|ssh| ssh.group),
        late_tick: dice.chance(10),
        ways: ways(dice),
        send_buffer_bytes: None,
        receive_buffer_bytes: None,
    }
}

/// The kernel's choice, or a few source addresses.
fn ways(dice: &mut Dice) -> Ways {
    if dice.chance(70) {
        return Ways::through(&[]);
    }
    let addresses = (1..=dice.between(1, 5) as u8).flat_map(|n| {
        let v6 = IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(n)]);
        [IpAddr::from([10, 0, 0, n]), v6]
    });
    Ways::from_addresses(&[Way { interface: None, addresses: addresses.collect() }])
}

/// A group's rows, with one or two servers, and perhaps an address where nobody listens.
fn endpoints(
    number: usize,
    protocol: Protocol,
    (traffic, terminal): (Traffic, Option<Terminal>),
    ssh: Option<&Parts>,
    dice: &mut Dice,
    weather: Weather,
    tables: &mut Tables,
) -> Vec<u32> {
    let (cert, key) = pki();
    let stormy = weather == Weather::Stormy;
    let settings = sink::Settings {
        protocol: match protocol {
            Protocol::Tcp => sink::Protocol::Tcp,
            Protocol::Ws => sink::Protocol::Ws,
            Protocol::Wss => sink::Protocol::Wss,
            Protocol::Ssh => sink::Protocol::Ssh,
        },
        traffic: match traffic {
            Traffic::Echo => match terminal {
                Some(Terminal { echo, .. }) => {
                    sink::Traffic::Terminal { raw: echo == Echo::Raw, keeps: dice.chance(75) }
                }
                None => sink::Traffic::Echo,
            },
            Traffic::Discard => sink::Traffic::Discard,
            Traffic::Receive => {
                let tick_ns = dice.between(5, 200) * MS;
                sink::Traffic::Receive { bytes: dice.between(1, 5000) as u32, tick_ns }
            }
        },
        tls: (protocol == Protocol::Wss)
            .then(|| server_config(cert.as_bytes(), key.as_bytes()).expect("a pair that fits")),
        ssh: ssh.map(|ssh| ssh.server.clone()),
        delay_ns: if weather == Weather::Calm || traffic != Traffic::Echo {
            0
        } else {
            dice.rare(20, 700) * MS
        },
        close_after_ns: (stormy && dice.chance(10)).then(|| dice.between(1, 2000) * MS),
        ping_ns: dice.chance(30).then(|| dice.between(1, 300) * MS),
        stall: stormy && dice.chance(5),
        // The servers of a group share them, as those before an agent do.
        sessions: sink::Sessions::default(),
    };
    let mut addresses = Vec::new();
    for server in 0..dice.of(&[1, 1, 2]) {
        let address = SocketAddr::from(([10, number as u8, 0, 1 + server], 80));
        addresses.push(address);
        tables.servers.push(Server { address, group: number, settings: settings.clone() });
    }
    if dice.chance(20) {
        addresses.insert(0, SocketAddr::from(([10, number as u8, 0, 9], 80)));
    }
    tables.addresses.push(addresses);
    let tls = (protocol == Protocol::Wss).then(|| {
        let settings = ClientSettings { ca_pem: Some(cert.as_bytes()), ..ClientSettings::default() };
        Arc::new(TlsName {
            name: "localhost".try_into().expect("a name"),
            config: client_config(&settings).expect("settings that fit"),
        })
    });
    // Streams of terminals have a session each; as many as a group may ever have.
    let rows = if terminal.is_some() { CONNS_MAX } else { 1 };
    let first = tables.endpoints.len() as u32;
    for row in 0..rows {
        let id = Uuid::from_random([row as u8; 16]);
        let path = terminal.map_or_else(|| "/".into(), |_| TerminalRequest::new(id, id, "").path());
        tables.endpoints.push(Endpoint {
            protocol,
            target: 0,
            addresses: tables.addresses.len() as u32 - 1,
            tls: tls.clone(),
            ssh: ssh.map(|ssh| ssh.row.clone()),
            host: "localhost".into(),
            path: path.into(),
            headers: "".into(),
        });
    }
    (first..first + rows).collect()
}
