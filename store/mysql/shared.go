package mysql

import (
	"database/sql"
	"errors"
	"log/slog"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// Shared returns the Database as the contract of stores that brokers share.
func (d *Database) Shared() store.Shared { return shared{d} }

type shared struct{ *Database }

func (s shared) Create(broker string) (store.SharedJournal, error) {
	return orNil(s.Database.Create(broker))
}

func (s shared) Claim(h store.Held, owner string) (store.SharedJournal, error) {
	return orNil(s.Database.Claim(h, owner))
}

// orNil keeps a nil pointer from becoming an interface that is not nil.
func orNil(j *Journal, err error) (store.SharedJournal, error) {
	if err != nil {
		return nil, err
	}
	return j, nil
}

// Connect returns a pool of connections to the server that o names, on no database.
func Connect(o Options, log *slog.Logger) (*sql.DB, error) {
	o = o.WithDefaults()
	if err := o.Validate(); err != nil {
		return nil, &kite.Error{Code: kite.Invalid, Op: "connect to mysql", Err: err}
	}
	o.DB = ""
	db, err := (&Database{o: o, log: log.With("component", "mysql"), packet: maxPacket}).pool(o.Master)
	if err != nil {
		return nil, o.explain(err)
	}
	if err := db.Ping(); err != nil {
		return nil, errors.Join(o.explain(err), db.Close())
	}
	return db, nil
}
