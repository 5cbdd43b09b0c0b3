-- Each participant keeps its own tables in its own database, as its own user; Escrow's database is made by the image itself.
CREATE USER inventory PASSWORD 'local-only';
CREATE DATABASE inventory OWNER inventory;
CREATE USER payment PASSWORD 'local-only';
CREATE DATABASE payment OWNER payment;
CREATE USER invoice PASSWORD 'local-only';
CREATE DATABASE invoice OWNER invoice;
