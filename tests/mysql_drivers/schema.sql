-- What the steps of the drivers find; made anew before each step.
CREATE TABLE types (
  id int PRIMARY KEY, tiny tinyint, tiny_u tinyint unsigned, small smallint, medium mediumint, big bigint, big_u bigint unsigned,
  dec_ decimal(30, 10), flt float, dbl double, bits bit(12), yr year, dt date, tm time(6), ts timestamp(3) NULL, dtm datetime(6),
  ch char(10), vc varchar(100), bin binary(4), vbin varbinary(20), bl blob, tt tinytext, txt longtext, en enum('a', 'b'),
  st set('x', 'y', 'z'), js json, geo point
) DEFAULT CHARACTER SET utf8mb4;
INSERT INTO types VALUES
  (1, -1, 1, -2, 3, -4, 5, 1234567890.0123456789, 1.5, -2.25, b'101', 2024, '2024-02-29', '-11:22:33.000001', '2024-01-02 03:04:05.678',
   '2024-12-31 23:59:59.999999', 'ch', 'it''s \\ ünïcode € 🦀', x'00ff0102', x'00', x'0001feff', '', 'long', 'b', 'x,z', '{"a": [1, null, "é"]}',
   ST_GeomFromText('POINT(1 2)')),
  (2, -128, 255, 32767, 8388607, -9223372036854775808, 18446744073709551615, -99999999999999999999.9999999999, 0, 1e300, b'111111111111',
   1901, '1000-01-01', '838:59:58', '1971-01-01 00:00:01', '9999-12-31 23:59:59', '', '', x'00000000', '', '', NULL, REPEAT('x', 70000),
   'a', '', '[]', NULL),
  (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
   NULL, NULL, NULL, NULL);
CREATE TABLE digits (d int);
INSERT INTO digits VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9);
CREATE TABLE numbers (id int PRIMARY KEY, word varchar(100));
INSERT INTO numbers SELECT a.d + 10 * b.d + 100 * c.d + 1000 * d.d, CONCAT('word ', a.d, b.d, c.d, d.d) FROM digits a, digits b, digits c, digits d;
DROP TABLE digits;
CREATE TABLE work (id int PRIMARY KEY AUTO_INCREMENT, word varchar(100)) ENGINE = InnoDB;
CREATE TABLE `lines` (line varchar(200) CHARACTER SET latin1);
DELIMITER //
CREATE PROCEDURE several(IN n int, OUT twice int) SQL SECURITY INVOKER
BEGIN
  SELECT n AS n, 'first' AS word;
  SELECT id, vc FROM types ORDER BY id;
  UPDATE work SET word = 'x' WHERE id < 0;
  SET twice = n * 2;
END//
CREATE PROCEDURE failing() SQL SECURITY INVOKER
BEGIN
  SELECT 'before';
  SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'it fails in the middle', MYSQL_ERRNO = 1644;
END//
DELIMITER ;
