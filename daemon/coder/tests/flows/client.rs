//! One request after another: what is tried again, what is not, over which connections, and what is said.

use std::time::Duration;

use scale_coder::calls::NewUser;
use scale_coder::class::Class;
use scale_coder::client::Client;
use scale_coder::config::{Config, Connections};
use scale_coder::secret::Token;
use tokio::time::Instant;

use crate::fake::{Fake, What};
use crate::world::{ORGANIZATION, OWNER_TOKEN};
use crate::{owner, owner_with, pace};

fn page(status: u16) -> What {
    What::Answer {
        status,
        headers: vec![("content-type", "text/html; charset=utf-8")],
        body: "<html></html>",
    }
}

#[tokio::test]
async fn what_passes_is_tried_again_and_counted() {
    let fake = Fake::start("v2.26.0").await;
    fake.fault("GET", "/api/v2/users/me", 2, page(502));
    fake.fault("GET", "/api/v2/users/me", 1, What::Break);
    let client = owner(&fake);
    assert_eq!(client.me().await.unwrap().username, "admin");
    let seen = client.seen();
    assert_eq!((seen.requests, seen.retries, seen.server_errors, seen.unanswered), (4, 3, 2, 1));
    assert_eq!(seen.addresses.len(), 1);
    assert!(seen.versions.contains("v2.26.0") && seen.limiter_warning().is_none());
    fake.assert_manners();
}

#[tokio::test]
async fn what_is_final_is_asked_once() {
    let fake = Fake::start("v2.26.0").await;
    let client = owner(&fake);
    for (status, class) in [(400, Class::Rejected), (403, Class::Forbidden), (409, Class::NameTaken)] {
        let before = fake.count("GET", "/api/v2/users/me");
        let answer =
            What::Answer { status, headers: vec![], body: r#"{"message":"No.","detail":"Really."}"# };
        fake.fault("GET", "/api/v2/users/me", 1, answer);
        let error = client.me().await.unwrap_err();
        assert_eq!(error.class(), class);
        let words = format!("GET /api/v2/users/me: {status} No (Really); {}", class.sentence());
        assert_eq!(error.to_string(), words);
        assert_eq!(fake.count("GET", "/api/v2/users/me"), before + 1);
    }
}

#[tokio::test]
async fn a_server_that_stays_down_is_given_up_on_by_class() {
    let fake = Fake::start("v2.26.0").await;
    fake.fault("GET", "/api/v2/users/me", 100, page(503));
    let client = owner(&fake);
    assert_eq!(client.me().await.unwrap_err().class(), Class::ServerError);
    assert_eq!(fake.count("GET", "/api/v2/users/me"), client.pace().tries_max as usize);
    // A port where nobody listens: the address was ours a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = owner_with(Config { pace: pace(), ..Config::new(format!("http://{free}")) });
    let error = client.me().await.unwrap_err();
    assert_eq!(error.class(), Class::Unreachable);
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_create_whose_tries_had_no_answer_is_told_from_one_that_was_never_sent_or_refused() {
    let fake = Fake::start("v2.26.0").await;
    let client = owner(&fake);
    let new = |n: u32| NewUser {
        username: format!("scaletest-r1-0-{n}"),
        email: format!("{n}@scaletest.local"),
        organization_id: ORGANIZATION.into(),
    };
    let limited = || What::Answer { status: 429, headers: vec![], body: r#"{"message":"rate limited"}"# };
    for (n, (faults, unknown)) in [
        (vec![], 0),
        (vec![limited()], 0),
        (vec![What::Break], 1),
        (vec![What::Lose, limited(), page(502)], 2),
        (vec![page(408)], 1),
        (vec![page(403)], 0),
    ]
    .into_iter()
    .enumerate()
    {
        let is_good = faults.iter().all(|what| !matches!(what, What::Answer { status: 400..=408, .. }));
        for fault in faults {
            fake.fault("POST", "/api/v2/users", 1, fault);
        }
        let outcome = client.create_user(&new(n as u32)).await;
        assert_eq!(outcome.unknown, unknown, "{n}: {outcome:?}");
        // A try that was lost had made it: the name is taken then.
        let is_made = outcome.answer.is_ok_and(|user| user.username == new(n as u32).username);
        assert_eq!(is_made, is_good && n != 3, "{n}");
    }
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = owner_with(Config { pace: pace(), ..Config::new(format!("http://{free}")) });
    let outcome = client.create_user(&new(9)).await;
    assert_eq!((outcome.unknown, outcome.answer.unwrap_err().class()), (0, Class::Unreachable));
}

#[tokio::test]
async fn a_limiter_is_obeyed_to_the_second_and_named() {
    let fake = Fake::start("v2.26.0").await;
    let limited = What::Answer {
        status: 429,
        headers: vec![("retry-after", "1"), ("content-type", "application/json")],
        body: r#"{"message":"You've been rate limited for sending more than 512 requests."}"#,
    };
    fake.fault("GET", "/api/v2/users/me", 1, limited);
    let client = owner(&fake);
    let began = Instant::now();
    client.me().await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
    let warning = client.seen().limiter_warning().expect("a warning");
    assert!(warning.contains("1 of 2 requests") && warning.contains("CODER_DANGEROUS_DISABLE_RATE_LIMITS"));
}

#[tokio::test]
async fn silence_ends_after_the_time_for_a_request() {
    let fake = Fake::start("v2.26.0").await;
    fake.fault("GET", "/api/v2/users/me", 9, What::Hang(Duration::from_secs(60)));
    let impatient = scale_coder::config::Pace { request: Duration::from_millis(20), tries_max: 2, ..pace() };
    let client = owner_with(Config { pace: impatient, ..Config::new(&fake.url) });
    let error = client.me().await.unwrap_err();
    assert_eq!(error.class(), Class::RequestTimeout);
    assert!(error.to_string().contains("within 0.02 s"), "{error}");
}

#[tokio::test]
async fn a_page_instead_of_json_and_a_redirect_are_recognised() {
    let fake = Fake::start("v2.26.0").await;
    let client = owner(&fake);
    fake.fault("GET", "/api/v2/users/me", 1, page(200));
    let error = client.me().await.unwrap_err();
    assert!(error.class() == Class::NotCoder && error.to_string().contains("text/html"), "{error}");
    let elsewhere = vec![("location", "https://login.example.com/")];
    fake.fault("GET", "/api/v2/users/me", 1, What::Answer { status: 302, headers: elsewhere, body: "" });
    let error = client.me().await.unwrap_err();
    assert!(error.to_string().contains("redirects to https://login.example.com/"), "{error}");
    fake.fault(
        "GET",
        "/api/v2/users/me",
        1,
        What::Answer { status: 200, headers: vec![("content-type", "application/json")], body: "[1]" },
    );
    assert_eq!(client.me().await.unwrap_err().class(), Class::NotCoder);
}

/// The clients of two users, after three requests of each at once; how many connections they took.
async fn connections_of_two_users(connections: Connections) -> usize {
    let fake = Fake::start("v2.26.0").await;
    let owner = owner_with(Config { pace: pace(), connections, ..Config::new(&fake.url) });
    let mut tokens = Vec::new();
    for name in ["one", "two"] {
        let id = fake.world().add_user(name, "mail", None);
        tokens.push(owner.mint_token(&id, Duration::from_secs(3600)).await.unwrap());
    }
    let users: Vec<Client> = tokens.iter().map(|token| owner.for_user(token.clone()).unwrap()).collect();
    for _ in 0..3 {
        for user in &users {
            user.me().await.unwrap();
        }
    }
    fake.assert_manners();
    let of = |token: &Token| fake.ports(token.expose());
    let all = [of(&tokens[0]), of(&tokens[1]), fake.ports(OWNER_TOKEN)];
    all.into_iter().flatten().collect::<std::collections::BTreeSet<_>>().len()
}

#[tokio::test]
async fn each_user_has_a_connection_unless_they_are_pooled() {
    assert_eq!(connections_of_two_users(Connections::PerUser).await, 3);
    assert_eq!(connections_of_two_users(Connections::Pooled).await, 1);
}

#[tokio::test]
async fn only_the_addresses_given_are_connected_to() {
    let fake = Fake::start("v2.26.0").await;
    let address: std::net::SocketAddr = fake.url["http://".len()..].parse().unwrap();
    let url = format!("http://coder.example.invalid:{}", address.port());
    let client = owner_with(Config { pace: pace(), addresses: vec![address], ..Config::new(url) });
    client.me().await.unwrap();
    assert!(client.seen().addresses.contains_key(&address));
}

#[tokio::test]
async fn lists_are_read_whole_and_each_row_once_though_rows_move() {
    let fake = Fake::start("v2.26.0").await;
    let admin = fake.world().users[0].id.clone();
    for n in 0..250 {
        fake.world().add_workspace(&format!("scaletest-x-{n}"), &admin);
    }
    // The second page is answered as the first: its rows were seen, those of the second were not.
    let client = owner(&fake);
    let all = client.workspaces("name:\"scaletest-\"").await.unwrap();
    assert_eq!((all.len(), fake.count("GET", "/api/v2/workspaces")), (250, 3));
    fake.world().workspaces.rotate_right(100);
    let (first, moved) = (client.workspaces("name:\"scaletest-\""), async {
        while fake.count("GET", "/api/v2/workspaces") < 4 {
            tokio::task::yield_now().await;
        }
        fake.world().workspaces.rotate_right(100);
    });
    let (all, ()) = tokio::join!(first, moved);
    let names: std::collections::BTreeSet<_> = all.unwrap().into_iter().map(|found| found.name).collect();
    assert_eq!(names.len(), 250);
}

#[tokio::test]
async fn the_token_is_in_the_header_and_in_nothing_that_is_printed() {
    let fake = Fake::start("v2.26.0").await;
    let client = owner(&fake);
    client.me().await.unwrap();
    assert_eq!(fake.state().seen[0].token, OWNER_TOKEN);
    fake.world().tokens.clear();
    let error = client.me().await.unwrap_err();
    let printed = format!("{client:?} {error:?} {error} {:?} {:?}", client.seen(), client.token());
    assert!(!printed.contains("CANARY"), "{printed}");
    fake.assert_manners();
}

#[tokio::test]
async fn what_the_deployment_says_of_apps_and_terminals_is_read() {
    let fake = Fake::start("v2.26.0").await;
    let client = owner(&fake);
    assert_eq!(client.app_host().await.unwrap(), None);
    fake.world().app_host = "*.apps.example.com".into();
    assert_eq!(client.app_host().await.unwrap().as_deref(), Some("*.apps.example.com"));
    assert!(client.owner_exec_is_disabled().await.unwrap());
}
