"""Options of notifications by mail."""

from __future__ import annotations

from oslo_config import cfg

from gateway.config.mail import CONFIRMATION, PORTS, SELF_LOCAL, SENDMAIL, THIRD_PART, UNSUBSCRIPTION, MailSettings

_DEFAULTS = MailSettings()

#: Values in quotes may have commas in them.
_TEMPLATE = cfg.types.Dict(cfg.types.String(quotes=True))

MAIL_OPTS = (
    cfg.StrOpt(
        "smtp_mode", default=_DEFAULTS.mode, choices=(
            (THIRD_PART, "smtp_command sends it"), (SELF_LOCAL, "the gateway sends it to smtp_host by SMTP"),
        ),
        help="How mail to subscribers of the type mailto is sent.",
    ),
    cfg.StrOpt(
        "smtp_command", default=SENDMAIL,
        help="Command that sends mail in the mode third_part: split at blanks, run without a shell. It gets the mail on"
             " its standard input, recipients in the header To. Its exit status 0 means sent, 75 try again, another"
             " one never.",
    ),
    cfg.HostAddressOpt("smtp_host", help="Host of the SMTP server in the mode self_local."),
    cfg.PortOpt(
        "smtp_port", min=1,
        help="Port of the SMTP server. Unset: " + ", ".join(f"{port} with {how}" for how, port in PORTS.items())
             + " for smtp_security.",
    ),
    cfg.StrOpt(
        "smtp_security", default=_DEFAULTS.security, choices=(
            ("ssl", "TLS from the start"), ("starttls", "TLS by STARTTLS, which the server must offer"),
            ("none", "no TLS: for a server on this machine"),
        ),
        help="How the connection to the SMTP server is protected. Its certificate is checked, against ca_file if set.",
    ),
    cfg.StrOpt("smtp_user_name", help="User to log in to the SMTP server as. Unset: no login."),
    cfg.StrOpt("smtp_user_password", secret=True, help="Password of smtp_user_name."),
    cfg.FloatOpt(
        "smtp_timeout", default=_DEFAULTS.timeout, min=0.1, max=300.0,
        help="Time in seconds to send a mail, from the connection to the server's last reply, or to the end of"
             " smtp_command.",
    ),
    cfg.StrOpt(
        "smtp_from",
        help='Sender of mail, as in "Messages <no-reply@example.org>", unless the subscription has a sender that'
             " mail_domains allows. Undeliverable mail goes back there. Unset: marconi@ and the host of public_url, or"
             " this machine's name.",
    ),
    cfg.ListOpt(
        "mail_domains", default=[],
        help="Domains in whose name subscriptions may send mail, with their option from. Senders in other domains"
             " become Reply-To. Unset: any domain.",
    ),
    cfg.IntOpt(
        "mails_per_hour", default=_DEFAULTS.per_hour, min=0, max=3600,
        help="Maximum number of mails per hour to one address, counted by each process that delivers. Further ones"
             " wait. 0: no limit.",
    ),
    cfg.StrOpt(
        "external_confirmation_url",
        help="URL of a page that asks those who get mail whether they want to confirm a subscription. It gets what it"
             " takes to do so as parameters, as with OpenStack Zaqar. Unset: the gateway's own page, /v2/confirm, for"
             " which public_url has to be set.",
    ),
    cfg.Opt(
        "subscription_confirmation_email_template", type=_TEMPLATE, default={
            "topic": CONFIRMATION.topic, "body": CONFIRMATION.body,
        },
        help="Mail that asks to confirm a subscription: topic, body and sender. In topic and body {0} stands for the"
             " queue, {1} for the project, {2} for the link. Values with commas need double quotes.",
    ),
    cfg.Opt(
        "unsubscribe_confirmation_email_template", type=_TEMPLATE, default={
            "topic": UNSUBSCRIPTION.topic, "body": UNSUBSCRIPTION.body,
        },
        help="Mail that says that a subscription has ended, in the same form.",
    ),
)
