-- The backend's two logins and the roles that they take on.
--
--   login          role           used by
--   oslira_user    oslira_api     the HTTP API, in the name of the caller: subject to every policy
--   oslira_admin   service_role   tasks, consumers and schedules: not bound to a tenant
--
-- A login has no privileges of its own (NOINHERIT): each transaction takes on the login's one role. Passwords are set by the function
-- `migrate`, never in a migration.
--
-- `oslira_api` is a member of Supabase's `authenticated`, so it reads what a signed-in user may read, under the same policies. In addition it
-- may execute the API's functions. Supabase's Data API runs as `authenticated` and offers every function that this role may execute to
-- every signed-in user, which is why `authenticated` may execute none of them. V010__policies_and_grants.sql lists every privilege.
--
-- The role that applies the migrations owns the schema and must bypass RLS, as Supabase's `postgres` does: the SECURITY DEFINER functions
-- run as it.

DO $$
BEGIN
    IF NOT (SELECT rolbypassrls OR rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        RAISE EXCEPTION 'migrations must run as a role with BYPASSRLS (on Supabase: postgres)';
    END IF;
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'oslira_api') THEN
        CREATE ROLE oslira_api NOLOGIN INHERIT NOBYPASSRLS;
    END IF;
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'oslira_user') THEN
        CREATE ROLE oslira_user LOGIN NOINHERIT;
    END IF;
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'oslira_admin') THEN
        CREATE ROLE oslira_admin LOGIN NOINHERIT;
    END IF;
END
$$;

GRANT authenticated TO oslira_api;
GRANT oslira_api TO oslira_user;
GRANT service_role TO oslira_admin;

-- The API's limit is Supabase's own. A task has a longer one, so that a lost lock holder cannot block it.
ALTER ROLE oslira_user SET statement_timeout = '8s';
ALTER ROLE oslira_admin SET statement_timeout = '20s';
ALTER ROLE oslira_user SET idle_in_transaction_session_timeout = '10s';
ALTER ROLE oslira_admin SET idle_in_transaction_session_timeout = '10s';

-- Supabase's defaults grant every new table, sequence and function of `public` to its API roles, and PostgreSQL's let PUBLIC execute every
-- new function. Without them a chain of migrations that fails in the middle leaves nothing open.
ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON TABLES FROM anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON SEQUENCES FROM anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON FUNCTIONS FROM anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
REVOKE CREATE ON SCHEMA public FROM PUBLIC, anon, authenticated, service_role;
