package mysql

import (
	"database/sql"
	"errors"
	"math/rand/v2"

	"github.com/kiteq/kiteq/internal/kite"
)

// checkServer refuses a server on which the broker would fail later.
func checkServer(db *sql.DB, o Options) error {
	var packet int64
	var charset string
	err := db.QueryRow(`SELECT @@max_allowed_packet, default_character_set_name FROM information_schema.schemata WHERE schema_name=DATABASE()`).Scan(&packet, &charset)
	if err != nil {
		return err
	}
	var bad []error
	if need := 2*int64(o.MaxMessage) + packetMargin; packet < need {
		bad = append(bad, kite.Errorf(kite.Invalid, "mysql %s: max_allowed_packet is %s, messages of up to %s need %s, for each byte may have to be escaped: raise max_allowed_packet on the server",
			o.Master, kite.ByteSize(packet), o.MaxMessage, kite.ByteSize(need)))
	}
	if charset != "utf8mb4" {
		bad = append(bad, kite.Errorf(kite.Invalid, "mysql %s: database %s has the character set %s, utf8mb4 is needed: ALTER DATABASE `%s` CHARACTER SET utf8mb4", o.Master, o.DB, charset, o.DB))
	}
	err = tryGrants(db)
	for tries := 1; isServer(err, errDeadlock) && tries < 10; tries++ { // with another broker that starts
		err = tryGrants(db)
	}
	return errors.Join(append(bad, err)...)
}

// packetMargin is the room that a statement needs beside the bytes of one message.
const packetMargin = 64 << 10

// tryGrants does all that a broker does, to a journal that nobody has, and rolls it back.
func tryGrants(db *sql.DB) (err error) {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer func() {
		if rollback := tx.Rollback(); err == nil {
			err = rollback
		}
	}()
	place := rand.Uint32() //nolint:gosec // brokers that start at once should not meet
	for _, statement := range []string{
		"INSERT INTO kite_unit VALUES(0,?,0,0)",
		"UPDATE kite_unit SET bytes=1 WHERE journal=0 AND position=?",
		"DELETE FROM kite_unit WHERE journal=0 AND position=?",
	} {
		if _, err := tx.Exec(statement, place); err != nil {
			return err
		}
	}
	return nil
}
