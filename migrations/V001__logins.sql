-- The two logins of the backend. Neither may do anything by itself (NOINHERIT): each transaction takes on the one role
-- that it may become. Passwords are set by whoever deploys (ALTER ROLE … PASSWORD), never in a migration.
-- This login must own the schema and bypass RLS, as Supabase's `postgres` does: the SECURITY DEFINER functions run as it.

DO $$
BEGIN
    IF NOT (SELECT rolbypassrls OR rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        RAISE EXCEPTION 'migrations must run as a role with BYPASSRLS (on Supabase: postgres)';
    END IF;
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'oslira_user') THEN
        CREATE ROLE oslira_user LOGIN NOINHERIT;
    END IF;
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'oslira_admin') THEN
        CREATE ROLE oslira_admin LOGIN NOINHERIT;
    END IF;
END
$$;

GRANT authenticated TO oslira_user;
GRANT service_role TO oslira_admin;

-- Supabase's limit for API calls; a workflow step has its own, so that a lost lock holder cannot hang one.
ALTER ROLE oslira_user SET statement_timeout = '8s';
ALTER ROLE oslira_admin SET statement_timeout = '20s';
ALTER ROLE oslira_user SET idle_in_transaction_session_timeout = '10s';
ALTER ROLE oslira_admin SET idle_in_transaction_session_timeout = '10s';

REVOKE CREATE ON SCHEMA public FROM PUBLIC, anon, authenticated, service_role;
