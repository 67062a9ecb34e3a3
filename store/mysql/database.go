package mysql

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// Database is a database that several brokers keep their journals in. Dial makes it; all its methods may be
// called at the same time.
type Database struct {
	o       Options
	log     *slog.Logger
	readers *sql.DB          // of the master
	replica *replica         // nil when there is none
	writers driver.Connector // one connection of it for each journal
	shards  int
	packet  int // the largest statement that the server takes, bytes
}

// Dial connects to the database, makes or migrates its tables, and checks what the server allows. An error of
// code Invalid or Unauthorized is one that only an operator can mend: it names the setting.
func Dial(o Options, log *slog.Logger) (*Database, error) {
	o = o.WithDefaults()
	if err := o.Validate(); err != nil {
		return nil, &kite.Error{Code: kite.Invalid, Op: "open the mysql store", Err: err}
	}
	d := &Database{o: o, log: log.With("component", "mysql")}
	if err := d.dial(); err != nil {
		return nil, errors.Join(o.explain(err), d.Close())
	}
	return d, nil
}

func (d *Database) dial() (err error) {
	if d.packet, err = d.makeDatabase(); err != nil {
		return err
	}
	writers := d.config(d.o.Master)
	writers.MultiStatements = true
	writers.ClientFoundRows = true // an UPDATE counts the rows that it found
	if d.writers, err = mysql.NewConnector(writers); err != nil {
		return err
	}
	if d.readers, err = d.pool(d.o.Master); err != nil {
		return err
	}
	if d.shards, err = migrate(d.readers, d.o); err != nil {
		return err
	}
	if err := checkServer(d.readers, d.o); err != nil {
		return err
	}
	if d.o.Replica != "" {
		d.replica = &replica{}
		d.replica.db, err = d.pool(d.o.Replica)
	}
	return err
}

// replica is a server that may be read, and need not.
type replica struct {
	db     *sql.DB
	restMs atomic.Int64 // it failed, and is not asked before, Unix ms
}

// replicaRest is how long a replica that failed is not asked: each time may take a reader its time-outs.
const replicaRest = 5 * time.Second

// rests tells whether it failed a moment ago.
func (r *replica) rests() bool { return kite.UnixMs(time.Now()) < r.restMs.Load() }

func (r *replica) failed() { r.restMs.Store(kite.UnixMs(time.Now().Add(replicaRest))) }

// idleTime is below waitTimeout: the server does not close a connection that is to be used again.
const (
	waitTimeout = "30" // seconds; a transaction of a broker that hangs is rolled back then
	lockTimeout = "5"  // seconds, below ReadTimeout
	idleTime    = 20 * time.Second
)

// config is how to connect to the server.
func (d *Database) config(addr string) *mysql.Config {
	c := mysql.NewConfig()
	c.Net, c.Addr, c.DBName = "tcp", addr, d.o.DB
	c.User, c.Passwd, c.TLSConfig = d.o.User, string(d.o.Password), d.o.TLS
	c.Timeout, c.ReadTimeout, c.WriteTimeout = d.o.Timeout, d.o.ReadTimeout, d.o.WriteTimeout
	c.MaxAllowedPacket = d.packet
	c.InterpolateParams = true // one round trip, and no statements to prepare
	c.Logger = driverLog{d.log}
	c.Params = map[string]string{
		"sql_mode":     "'STRICT_ALL_TABLES'", // NULL for a NOT NULL column is an error: the fence needs that
		"wait_timeout": waitTimeout, "innodb_lock_wait_timeout": lockTimeout,
	}
	return c
}

func (d *Database) pool(addr string) (*sql.DB, error) {
	connector, err := mysql.NewConnector(d.config(addr))
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(d.o.MaxConn)
	db.SetMaxIdleConns(d.o.MaxConn / 2)
	db.SetConnMaxIdleTime(idleTime)
	return db, nil
}

// makeDatabase makes the database when it is not there, and returns the server's max_allowed_packet.
func (d *Database) makeDatabase() (packet int, err error) {
	ask := func(name string) error {
		c := d.config(d.o.Master)
		c.DBName = name
		connector, err := mysql.NewConnector(c)
		if err != nil {
			return err
		}
		db := sql.OpenDB(connector)
		defer func() { err = errors.Join(err, db.Close()) }()
		if name == "" {
			if _, err := db.Exec("CREATE DATABASE IF NOT EXISTS `" + d.o.DB + "` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"); err != nil {
				return err
			}
		}
		return db.QueryRow("SELECT @@max_allowed_packet").Scan(&packet)
	}
	d.packet = 1 << 20 // what every server takes
	if err = ask(d.o.DB); isServer(err, errNoDatabase) {
		err = ask("")
	}
	return packet, err
}

// Close closes the connections. Its journals must have been closed.
func (d *Database) Close() error {
	var failed []error
	if d.readers != nil {
		failed = append(failed, d.readers.Close())
	}
	if d.replica != nil && d.replica.db != nil {
		failed = append(failed, d.replica.db.Close())
	}
	return errors.Join(failed...)
}

// Options returns what the Database was opened with, defaults filled in.
func (d *Database) Options() Options { return d.o }

// Held says who has a journal.
type Held = store.Held

// Held returns the journals that the owner has, oldest first; of all owners when it is "".
func (d *Database) Held(owner string) (all []Held, err error) {
	query, args := "SELECT id,broker,owner,epoch,since_ms FROM kite_journal", []any{}
	if owner != "" {
		query, args = query+" WHERE owner=?", append(args, []byte(owner))
	}
	rows, err := d.readers.Query(query+" ORDER BY id", args...)
	if err != nil {
		return nil, d.o.explain(err)
	}
	defer rows.Close() //nolint:errcheck // Err tells
	for rows.Next() {
		var h Held
		if err := rows.Scan(&h.Journal, &h.Broker, &h.Owner, &h.Epoch, &h.SinceMs); err != nil {
			return nil, d.o.explain(err)
		}
		all = append(all, h)
	}
	return all, d.o.explain(rows.Err())
}

// nowMs is the server's clock: brokers may not agree on the time.
const nowMs = "FLOOR(UNIX_TIMESTAMP(NOW(3))*1000)"

// Create makes a journal of the broker, which is also its owner.
func (d *Database) Create(broker string) (*Journal, error) {
	h := Held{Broker: broker, Owner: broker, Epoch: 1}
	result, err := d.readers.Exec("INSERT INTO kite_journal(broker,owner,epoch,head,since_ms,bytes,covered,generation) VALUES(?,?,1,0,"+nowMs+",0,0,0)",
		[]byte(broker), []byte(broker))
	if err != nil {
		return nil, d.o.explain(err)
	}
	id, err := result.LastInsertId()
	if err != nil {
		return nil, d.o.explain(err)
	}
	h.Journal = uint32(id)
	return d.open(h)
}

// Claim takes a journal over for the owner, who may have it already: from now on a Journal that was opened
// before can write nothing. When somebody else has claimed it since h was read, or it is gone, it is store.ErrFenced.
//
// It waits for a write of the former owner that is under way, a few seconds at most.
func (d *Database) Claim(h Held, owner string) (*Journal, error) {
	result, err := d.readers.Exec("UPDATE kite_journal SET owner=?,epoch=epoch+1,since_ms="+nowMs+" WHERE id=? AND epoch=?",
		[]byte(owner), h.Journal, h.Epoch)
	if err != nil {
		return nil, d.o.explain(err)
	}
	changed, err := result.RowsAffected()
	if err != nil {
		return nil, d.o.explain(err)
	}
	if changed != 1 {
		return nil, fmt.Errorf("claim journal %d at epoch %d: %w", h.Journal, h.Epoch, store.ErrFenced)
	}
	h.Owner, h.Epoch = owner, h.Epoch+1
	return d.open(h)
}

// driverLog has what the driver says in the broker's log.
type driverLog struct{ log *slog.Logger }

// Print logs the values.
func (l driverLog) Print(v ...any) { l.log.Debug("mysql driver", "text", fmt.Sprint(v...)) }
