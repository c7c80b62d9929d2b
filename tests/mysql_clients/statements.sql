SELECT @@version, @@version_comment, current_user(), database();
CREATE TABLE t (
  id int PRIMARY KEY AUTO_INCREMENT, tiny tinyint, tiny_u tinyint unsigned zerofill, big bigint, big_u bigint unsigned, d decimal(30, 10), f float,
  db double, b bit(12), y year, dt date, tm time(6), ts timestamp(3) NULL, dtm datetime(6), c char(10), v varchar(100), bin binary(4),
  vb varbinary(20), bl blob, tx text, e enum('a', 'b'), s set('x', 'y', 'z'), j json, g geometry, KEY (v)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;
INSERT INTO t VALUES
  (NULL, -1, 1, -4, 5, 1234567890.0123456789, 1.5, -2.25, b'101', 2024, '2024-02-29', '-11:22:33.000001', '2024-01-02 03:04:05.678',
   '2024-12-31 23:59:59.999999', 'ch', 'it''s \\ ünïcode € 🦀', x'00ff0102', x'00', x'0001feff', '', 'b', 'x,z', '{"a": [1, null, "é"]}',
   ST_GeomFromText('POINT(1 2)')),
  (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
  (NULL, 127, 255, -9223372036854775808, 18446744073709551615, -99999999999999999999.9999999999, 0, 1e300, b'111111111111', 1901, '1000-01-01',
   '838:59:58', '1971-01-01 00:00:01', '9999-12-31 23:59:59', '', '', x'00000000', '', '', REPEAT('long ', 1000), 'a', '', '[]', NULL);
SELECT * FROM t ORDER BY id;
SELECT id, v FROM t WHERE id > 1000;
SELECT '', NULL, 'tab	newline
end', x'00', 'ÄÖÜ 🦀';
ANALYZE TABLE t;
SHOW TABLES;
SHOW CREATE TABLE t;
SHOW FULL COLUMNS FROM t;
SHOW INDEX FROM t;
DESCRIBE t;
EXPLAIN SELECT * FROM t WHERE id = 1;
SHOW VARIABLES LIKE 'character_set_%';
SHOW GRANTS;
SELECT cast('abc' AS signed), 1/0;
SHOW WARNINGS;
INSERT INTO t (id, v) VALUES (1, 'twice');
INSERT IGNORE INTO t (id, v) VALUES (1, 'twice'), (10, REPEAT('x', 200));
SELECT nonsense;
SELEKT 1;
SELECT * FROM there_is_none_such;
SHOW ERRORS;
START TRANSACTION;
UPDATE t SET v = 'changed' WHERE id < 3;
SAVEPOINT s;
DELETE FROM t;
SELECT count(*) FROM t;
ROLLBACK TO SAVEPOINT s;
SELECT row_count(), count(*) FROM t;
COMMIT;
BEGIN;
DELETE FROM t;
ROLLBACK;
SELECT id, v FROM t ORDER BY id;
CREATE TEMPORARY TABLE mine (id int, word varchar(10)) SELECT 1 AS id, 'one' AS word;
SELECT * FROM mine;
DROP TEMPORARY TABLE mine;
SELECT * FROM mine;
SET @mine = 42, @other = 'ü';
SELECT @mine, @other, @none;
PREPARE statement FROM 'SELECT id, v FROM t WHERE id > ? AND v <> ? ORDER BY id';
EXECUTE statement USING @none, @other;
SET @none = 0;
EXECUTE statement USING @none, @other;
DEALLOCATE PREPARE statement;
EXECUTE statement;
DELIMITER //
CREATE PROCEDURE several(INOUT n int) BEGIN
  SELECT n, 'first';
  SELECT id, v FROM t ORDER BY id;
  SIGNAL SQLSTATE '01000' SET MESSAGE_TEXT = 'only a warning';
  SET n = n * 2;
END//
CREATE PROCEDURE failing() BEGIN SELECT 'before'; SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'ünï'; SELECT 'behind'; END//
CREATE FUNCTION twice(n int) RETURNS int DETERMINISTIC RETURN n * 2//
CREATE TRIGGER before_t BEFORE INSERT ON t FOR EACH ROW SET NEW.c = 'trigger'//
SELECT 1; SELECT 2; SELECT nonsense; SELECT 4//
DELIMITER ;
SET @n = 21;
CALL several(@n);
SELECT @n, twice(4);
CALL failing();
INSERT INTO t (v) VALUES ('by a trigger');
SELECT last_insert_id() > 0, c, v FROM t WHERE v = 'by a trigger';
CREATE VIEW some AS SELECT id, v FROM t WHERE id < 3;
SELECT * FROM some ORDER BY id;
ALTER TABLE t ADD COLUMN more int DEFAULT 7, DROP COLUMN g;
CHECKSUM TABLE t;
CHECK TABLE t;
LOCK TABLES t READ;
INSERT INTO t (id) VALUES (99);
UNLOCK TABLES;
SELECT get_lock('mine', 1), release_lock('mine'), release_lock('mine');
SET NAMES latin1;
SELECT 'é', @@character_set_client;
SET NAMES utf8mb4;
SET SESSION sql_mode = 'ANSI_QUOTES';
SELECT "id" FROM t WHERE id = 1;
SET time_zone = '+00:00';
SELECT unix_timestamp('2024-01-01'), @@time_zone;
USE mysql;
USE there_is_none_such;
SELECT database() = (SELECT table_schema FROM information_schema.views WHERE table_name = 'some');
SELECT a.id, REPEAT('0123456789', 100) FROM t a, t b, t c ORDER BY 1 LIMIT 300;
HANDLER t OPEN;
HANDLER t READ FIRST;
HANDLER t CLOSE;
TRUNCATE TABLE t;
SELECT * FROM t;
DROP VIEW some;
DROP DATABASE mysql;
KILL 1;
DROP PROCEDURE several;
DROP PROCEDURE failing;
DROP TABLE t, t_that_is_not;
status
\! echo a command of the client
SELECT 'the end'\G
