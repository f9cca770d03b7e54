"""The database servers of a rehearsal: a real PostgreSQL for each DB instance of RDS."""
