//! Templates and their parameters (the protocol's templates).

use crate::client::Client;
use crate::error::ApiError;
use crate::types::{RichParameter, Template};

use super::if_there;

impl Client {
    /// `GET /organizations/{org}/templates`.
    ///
    /// # Errors
    /// No answer, 401, 404.
    pub async fn templates(&self, organization: &str) -> Result<Vec<Template>, ApiError> {
        let found: Option<Vec<Template>> =
            self.get(&format!("/organizations/{organization}/templates"), &[]).await?;
        Ok(found.unwrap_or_default())
    }

    /// `GET /templates/{id}`; `None` where there is none that this user may see.
    ///
    /// # Errors
    /// Anything but 404.
    pub async fn template(&self, id: &str) -> Result<Option<Template>, ApiError> {
        if_there(self.get(&format!("/templates/{id}"), &[]).await)
    }

    /// `GET /templateversions/{id}/rich-parameters`.
    ///
    /// # Errors
    /// No answer, 404.
    pub async fn rich_parameters(&self, version: &str) -> Result<Vec<RichParameter>, ApiError> {
        let found: Option<Vec<RichParameter>> =
            self.get(&format!("/templateversions/{version}/rich-parameters"), &[]).await?;
        Ok(found.unwrap_or_default())
    }
}
