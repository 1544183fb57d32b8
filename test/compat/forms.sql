-- Statements whose answers must be the same on heap and on s3am: run by like_heap.
\set VERBOSITY terse
\set ON_ERROR_STOP 0
set client_min_messages=warning;
-- ALTER forms
create table a (i int, t text, n numeric default 5);
insert into a select i, 'v'||i from generate_series(1,1000) i;
alter table a alter i type bigint;
select sum(i), count(*), pg_typeof(min(i)) from a;
alter table a alter i type text using 'i'||i;
select min(i), max(i) from a;
alter table a alter t type varchar(20);
alter table a alter t type varchar(40);
alter table a alter t type text;
alter table a alter t set not null;
insert into a values ('x', null);
alter table a alter t drop not null;
insert into a values ('x', null);
alter table a alter t set not null;
delete from a where t is null;
alter table a add column r double precision default random();
select count(distinct r) > 900 from a;
alter table a add column c int default 42;
alter table a add column e int default null;
select sum(c), count(e) from a;
alter table a drop column c;
alter table a add column c text default 'new';
select count(*) from a where c = 'new';
alter table a alter t set storage external;
alter table a alter t set compression pglz;
alter table a alter t set statistics 50;
alter table a set (fillfactor=70);
alter table a set tablespace pg_default;
alter table a replica identity full;
alter table a add check (length(t) > 1);
alter table a add constraint nope check (length(t) > 2);
alter table a add constraint later check (length(t) > 1) not valid;
alter table a validate constraint later;
create table inh () inherits (a);
insert into inh (i,t) values ('child','child row');
select count(*) from a; select count(*) from only a;
alter table inh no inherit a;
alter table inh inherit a;
drop table inh;
-- generated, identity
create table g (i int, d int generated always as (i*2) stored, id int generated always as identity);
insert into g(i) select generate_series(1,5);
update g set i = 10 where i = 3;
select * from g order by id;
alter table g add column d2 int generated always as (i+1) stored;
select * from g order by id;
insert into g(i) values (7) returning *;
-- truncate
begin; truncate a; select count(*) from a; insert into a values ('1','one'); select count(*) from a; rollback; select count(*) from a;
begin; create table tt as select 1 x; truncate tt; insert into tt values (2); savepoint s; truncate tt; insert into tt values (3); rollback to s; select * from tt; truncate tt; select * from tt; insert into tt values (4); commit; select * from tt;
truncate tt restart identity cascade;
select * from tt;
-- matviews
create materialized view m as select t, count(*) from a group by t with no data;
select * from m;
refresh materialized view m;
select count(*) from m;
refresh materialized view m with no data;
select count(*) from m;
refresh materialized view m;
begin; refresh materialized view m; delete from a where t = 'v1'; refresh materialized view m; select count(*) from m; rollback; select count(*) from m;
-- ctas
create table z as select; select count(*) from z;
create table z2 as select from generate_series(1,3); select count(*) from z2;
create table z3 (like a including all); insert into z3 select * from a; select count(*) from z3;
select 1 as one, 'x'::text as x into z4; select * from z4;
create table z5 as select 1 with no data; select count(*) from z5;
-- copy
begin; create table fr (i int); copy fr from stdin with (freeze);
1
2
\.
select * from fr; commit; select * from fr;
copy (select i from g order by 1) to stdout;
copy g (i) from stdin where i > 10;
5
15
\.
select count(*) from g;
-- cursors
begin; declare c scroll cursor for select i from g order by id; fetch 3 from c; fetch backward 2 from c; fetch last from c; fetch prior from c; fetch absolute 2 from c; move first in c; fetch relative 1 from c; commit;
begin; declare u cursor for select * from g where i < 5 for update; fetch 1 from u; update g set i = i + 100 where current of u; fetch 1 from u; delete from g where current of u; commit; select i,d from g order by id;
begin; declare h cursor with hold for select i from g order by id; insert into g(i) values (99); commit; fetch 2 from h; delete from g; fetch all from h; close h;
insert into g(i) select generate_series(1,20);
-- rows by tid; how many rows a block has is the access method's affair
create table tid (i int); insert into tid select generate_series(1,1000);
select i from tid where ctid = '(0,5)'; select i from tid where ctid = any(array['(0,1)','(0,9)']::tid[]);
select count(*) from tid where ctid >= '(0,0)'; select count(*) from tid where ctid > '(0,2)' and ctid <= '(0,12)';
select min(i), max(i) from tid where ctid < '(0,65535)' and ctid > '(0,0)' and i < 100;
select count(*) = (select count(*) from tid where ctid < '(2,0)') from tid where ctid <= '(1,65535)';
select (select count(*) from tid where ctid < '(2,1)') + (select count(*) from tid where ctid >= '(2,1)');
select count(*) from tid where ctid > '(4294967294,65535)';
delete from tid where ctid = '(0,2)'; select count(*) from tid; update tid set i = -i where ctid = '(0,3)' returning i;
begin; insert into tid values (5000); select i from tid where ctid = (select ctid from tid where i = 5000); rollback;
begin; declare tc scroll cursor for select i from tid where ctid between '(0,20)' and '(0,23)'; fetch 2 from tc; fetch backward 1 from tc; fetch last from tc; fetch prior from tc; commit;
-- sample
select count(*) from tid tablesample system (100); select count(*) from tid tablesample bernoulli (100); select count(*) = (select count(*) from tid tablesample bernoulli (50) repeatable (3)) from tid tablesample bernoulli (50) repeatable (3);
-- analyze
analyze tid; select reltuples, relpages > 0 from pg_class where relname = 'tid'; select n_distinct, null_frac from pg_stats where tablename = 'tid';
vacuum (verbose off) tid; vacuum full tid; select count(*), sum(i) from tid; vacuum (analyze, freeze) tid; cluster tid;
select relfrozenxid = '0' or relfrozenxid::text <> '0' from pg_class where relname='tid';
-- system columns
select count(distinct xmin) >= 1, bool_and(tableoid = 'tid'::regclass) from tid;
begin; insert into tid values (1) returning tableoid::regclass, xmin is not null as xmin, cmin = cmin, ctid is not null; commit;
-- triggers
create table tr (i int, v text);
create function show() returns trigger language plpgsql as $$ begin raise notice '% % % old=% new=%', tg_when, tg_op, tg_level, case when tg_op<>'INSERT' and tg_level='ROW' then old::text end, case when tg_op<>'DELETE' and tg_level='ROW' then new::text end; if tg_op='DELETE' then return old; end if; return new; end $$;
create function trans() returns trigger language plpgsql as $$ begin raise notice 'old % new %', (select string_agg(o::text, ',' order by o.i) from o), (select string_agg(n::text, ',' order by n.i) from n); return null; end $$;
create trigger b before insert or update or delete on tr for each row execute function show();
create trigger a after insert or update or delete on tr for each row execute function show();
create trigger st after update on tr referencing old table as o new table as n for each statement execute function trans();
create constraint trigger ct after insert on tr deferrable initially deferred for each row execute function show();
set client_min_messages=notice;
insert into tr values (1,'a'),(2,'b');
update tr set v = v||'!' ;
begin; insert into tr values (3,'c'); savepoint s; insert into tr values (4,'d'); rollback to s; update tr set i = 33 where i = 3; commit;
delete from tr where i = 2;
merge into tr using (values (1,'m'),(9,'n')) s(i,v) on tr.i = s.i when matched then update set v = s.v when not matched then insert values (s.i, s.v);
set client_min_messages=warning;
create function upd() returns trigger language plpgsql as $$ begin update tr set v = 'trig' where i = new.i; return new; end $$;
create trigger zz before update on tr for each row execute function upd();
set client_min_messages=error;
update tr set v = 'x' where i = 1;
-- RLS
grant usage on schema public to public; create table rl (i int, owner text); insert into rl values (1,'alice'),(2,'bob');
alter table rl enable row level security; create policy p on rl using (owner = current_setting('my.name', true));
grant select, update, insert on rl to regress_forms; set role regress_forms; set my.name = 'alice'; select * from rl; update rl set owner='bob'; insert into rl values (3,'bob'); reset role;
-- partitions
create table p (i int, k text) partition by list (k); create table p1 partition of p for values in ('a'); create table p2 (k text, i int); insert into p2 values ('b', 1); alter table p attach partition p2 for values in ('b'); create table p3 (i int, k text); insert into p3 values (1,'zz'); alter table p attach partition p3 for values in ('c');
insert into p values (1,'a'),(2,'b'),(3,'q'); insert into p values (1,'a'),(2,'b'); update p set k = 'b' where k = 'a' returning tableoid::regclass, *; update p set k = 'zz'; select tableoid::regclass, * from p order by i, k; alter table p detach partition p2; select count(*) from p; alter table p attach partition p2 for values in ('b'); delete from p returning *;
alter table p detach partition p1 concurrently; drop table p;
-- refused
create temp table tmp (i int); select relam <> 0, amname = 'heap' as is_heap from pg_class c join pg_am a on a.oid=relam where relname='tmp';
-- large values
create table big (i int, v text, b bytea); insert into big values (1, repeat('abc', 1000000), decode(repeat('ab', 500000),'hex')); insert into big select 2, v, b from big; update big set i = 3 where i = 2; select i, length(v), md5(v), length(b) from big order by i; alter table big alter v set storage external; update big set v = v || 'x'; select i, length(v) from big order by i;
select sum(length(v)) from (select v from big union all select v from big) s;
-- composite with toasted values of another table
create type comp as (a int, b text); create table co (c comp, ca comp[]); insert into co select row(i, v)::comp, array[row(i, v)::comp] from big; select (c).a, length((c).b), length(ca[1].b) from co order by 1;
-- prepared statement over ddl
create table pr (i int); insert into pr values (1); prepare pq as select * from pr; execute pq; alter table pr add column j int default 3; execute pq; alter table pr alter j type bigint; execute pq; deallocate pq;
-- plpgsql cursors with updates
do $$ declare r record; n int := 0; begin for r in select * from tid where i between 1 and 50 loop update tid set i = i where i = r.i; n := n + 1; end loop; raise notice '%', n; end $$;
-- self join update, insert select self
insert into tid select i from tid; select count(*) from tid;
with x as (delete from tid where i < 100 returning i), y as (insert into tid select i from x returning i) select (select count(*) from x), (select count(*) from y); select count(*) from tid;
-- stats
select pg_stat_force_next_flush(); select pg_sleep(0); select n_tup_ins, n_tup_upd, n_tup_del from pg_stat_user_tables where relname = 'pr';
-- savepoint storms
begin; insert into pr values (100); do $$ begin for i in 1..500 loop begin insert into pr values (i); if i % 3 = 0 then raise division_by_zero; end if; exception when division_by_zero then null; end; end loop; end $$; select count(*), sum(i) from pr; commit; select count(*), sum(i) from pr;
-- cid
begin; insert into pr values (7); select cmin::text <> '', xmax = 0 from pr limit 1; rollback;
select tableoid::regclass from pr limit 1;
-- xmin is a token that lasts
begin; savepoint a; insert into pr values (8) returning xmin::text as token \gset
release a; select count(*) from pr where xmin::text = :'token'; commit; select count(*) from pr where xmin::text = :'token';
begin; update pr set i = 9 where xmin::text = :'token' returning xmin::text as next, xmin::text <> :'token' as changed \gset
commit; select :'changed', (select count(*) from pr where xmin::text = :'next'), (select count(*) from pr where xmin::text = :'token');
insert into pr values (10) returning xmin::text as token \gset
select count(*) from pr where xmin::text = :'token';
vacuum pr; select count(*) from pr where xmin::text = :'token';
-- rows of a child, a cursor and a trigger that ask for system columns
create table sys (i int); create function sees() returns trigger language plpgsql as $$ begin insert into heard values (tg_op, (select count(*) from sys where ctid = new.ctid)); return null; end $$; create table heard (op text, n int);
create trigger s after insert or update on sys for each row execute function sees();
insert into sys select generate_series(1,3); update sys set i = i + 1 where i > 1; select * from heard order by 1, 2;
-- xmax says whether ON CONFLICT inserted or updated, and who removed what DELETE returns
create table ups (a int primary key, b int); create table ups_log (a int primary key, n int);
create function ups_count() returns trigger language plpgsql as $$ begin insert into ups_log values (new.a, 1) on conflict (a) do update set n = ups_log.n + 1; return new; end $$;
insert into ups values (1, 1), (2, 2);
insert into ups values (2, 5), (3, 5), (1, 5) on conflict (a) do update set b = excluded.b returning a, b, xmax = 0 as inserted, xmax = pg_current_xact_id()::xid as mine;
create trigger ups_count before update on ups for each row execute function ups_count();
insert into ups values (3, 6), (4, 6) on conflict (a) do update set b = excluded.b returning a, b, xmax = 0 as inserted;
begin; insert into ups values (5, 7) on conflict (a) do update set b = excluded.b returning xmax = 0 as inserted; insert into ups values (5, 8) on conflict (a) do update set b = excluded.b returning xmax = 0 as inserted; commit;
update ups set b = 9 where a = 1 returning xmax = 0 as untouched; begin; select b from ups where a = 2 for update; update ups set b = 9 where a = 2 returning xmax = pg_current_xact_id()::xid as held; rollback;
delete from ups where a = 1 returning a, b, xmax = pg_current_xact_id()::xid as gone; select * from ups_log order by a;
-- who may not reassign or drop what another role owns is told so
create role regress_forms_other; set session authorization regress_forms; reassign owned by regress_forms_other to regress_forms; drop owned by regress_forms_other; reset session authorization; drop role regress_forms_other;
-- a ctid in a block that the table has not
create table nowhere (i int); select currtid2('nowhere', '(0,1)'); insert into nowhere values (1); select currtid2('nowhere', '(0,1)'); select currtid2('nowhere', '(1,1)'); select * from nowhere where ctid in ('(0,1)', '(7,1)', '(0,0)');
