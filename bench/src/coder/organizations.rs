//! Organizations, their members, and templates. All templates are in the first organization.

use serde_json::{Value, json};
use uuid::Uuid;

use super::deployment::{Call, Deployment};
use super::message::{Answer, Refusal, Response};
use super::state::Organization;
use super::templates::Template;

impl Deployment {
    fn view_organization(&self, organization: &Organization) -> Value {
        json!({
            "id": organization.id.to_string(),
            "name": organization.name,
            "display_name": organization.name,
            "description": "",
            "icon": "",
            "is_default": organization.id == self.organizations[0].id,
            "created_at": self.timestamp(self.began),
            "updated_at": self.timestamp(self.began),
        })
    }

    /// `{org}`: a UUID, a name or `default`, of one that the caller is in.
    pub(super) fn organization_of(&self, call: &Call<'_>, index: usize) -> Result<Uuid, Refusal> {
        let text = call.arg(index);
        let id = Uuid::parse_str(text).ok();
        let fits = |organization: &&Organization| {
            Some(organization.id) == id || organization.name == text || text == "default"
        };
        let found = self.organizations.iter().find(fits).map(|organization| organization.id);
        let member =
            |id: &Uuid| self.users[&call.actor].organizations.contains(id) || self.manages_users(call.actor);
        found.filter(member).ok_or_else(Refusal::not_found)
    }

    fn template_of(&self, call: &Call<'_>, is: impl Fn(&Template) -> Uuid) -> Result<&Template, Refusal> {
        let id = call.id(0)?;
        self.templates.iter().find(|template| is(template) == id).ok_or_else(Refusal::not_found)
    }
}

pub(super) fn list(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let user = call.actor;
    of(deployment, user, deployment.manages_users(user))
}

pub(super) fn of_user(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let user = deployment.user_of(call, 0)?;
    of(deployment, user, false)
}

fn of(deployment: &Deployment, user: Uuid, all: bool) -> Answer {
    let own = &deployment.users[&user].organizations;
    let rows = deployment.organizations.iter().filter(|organization| all || own.contains(&organization.id));
    Ok(Response::json(200, &rows.map(|organization| deployment.view_organization(organization)).collect()))
}

pub(super) fn get(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let id = deployment.organization_of(call, 0)?;
    let found = deployment.organizations.iter().find(|organization| organization.id == id);
    Ok(Response::json(200, &deployment.view_organization(found.expect("just found"))))
}

pub(super) fn add_member(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let organization = deployment.organization_of(call, 0)?;
    let user = deployment.user_of(call, 1)?;
    if !deployment.manages_users(call.actor) {
        return Err(Refusal::forbidden());
    }
    let record = deployment.users.get_mut(&user).expect("just found");
    if record.organizations.contains(&organization) {
        return Err(Refusal::new(409, "User is already a member of this organization."));
    }
    record.organizations.push(organization);
    let (user, organization) = (user.to_string(), organization.to_string());
    Ok(Response::json(200, &json!({ "user_id": user, "organization_id": organization, "roles": [] })))
}

pub(super) fn remove_member(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let organization = deployment.organization_of(call, 0)?;
    let user = deployment.user_of(call, 1)?;
    if !deployment.manages_users(call.actor) {
        return Err(Refusal::forbidden());
    }
    let record = deployment.users.get_mut(&user).expect("just found");
    record.organizations.retain(|id| *id != organization);
    Ok(Response::empty(204))
}

pub(super) fn templates(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let organization = deployment.organization_of(call, 0)?;
    if organization != deployment.organizations[0].id {
        return Ok(Response::json(200, &json!([])));
    }
    all_templates(deployment, call)
}

pub(super) fn all_templates(deployment: &mut Deployment, _: &Call<'_>) -> Answer {
    let rows = deployment.templates.iter().map(|template| deployment.view_template(template));
    Ok(Response::json(200, &rows.collect()))
}

pub(super) fn template(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let template = deployment.template_of(call, |template| template.id)?;
    Ok(Response::json(200, &deployment.view_template(template)))
}

pub(super) fn version(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let template = deployment.template_of(call, |template| template.version)?;
    Ok(Response::json(200, &deployment.view_version(template)))
}

pub(super) fn parameters(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let template = deployment.template_of(call, |template| template.version)?;
    Ok(Response::json(200, &template.parameters.iter().map(|parameter| parameter.view()).collect()))
}
