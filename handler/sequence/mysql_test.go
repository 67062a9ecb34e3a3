package sequence

import (
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"testing"

	driver "github.com/go-sql-driver/mysql"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
	"github.com/kiteq/kiteq/store/mysql"
)

// mysqlVariable has the data source name of a server on which databases may be made. ./build.sh test sets it.
const mysqlVariable = "KITEQ_TEST_MYSQL"

// mysqlRigs returns what makes lanes on journals in one database, which is dropped when the test ends; nil
// without a server.
func mysqlRigs(t *testing.T) func(*testing.T) *rig {
	t.Helper()
	source := os.Getenv(mysqlVariable)
	if source == "" {
		if os.Getenv("KITEQ_TEST_REQUIRE") == "1" {
			t.Fatal(mysqlVariable + " is not set")
		}
		return nil
	}
	at, err := driver.ParseDSN(source)
	if err != nil {
		t.Fatal(err)
	}
	o := mysql.Options{Master: at.Addr, User: at.User, Password: mysql.Secret(at.Passwd), DB: fmt.Sprintf("kiteq_lane_%d_%.20s", os.Getpid(), t.Name())}
	database, err := mysql.Dial(o, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := database.Close(); err != nil {
			t.Error(err)
		}
		at.DBName = ""
		db, err := sql.Open("mysql", at.FormatDSN())
		if err == nil {
			_, err = db.Exec("DROP DATABASE " + o.DB)
			_ = db.Close()
		}
		if err != nil {
			t.Error(err)
		}
	})
	return func(t *testing.T) *rig {
		t.Helper()
		journal, err := database.Create("b")
		if err != nil {
			t.Fatal(err)
		}
		r := newRig(t, journal, Options{})
		r.claim = func(old store.Journal) store.Journal {
			journal, err := database.Claim(old.(*mysql.Journal).Held(), "another")
			if err != nil {
				t.Fatal(err)
			}
			return journal
		}
		return r
	}
}

// TestDecisionsSurviveTheirOwner lets a broker that lost its journal decide against its successor.
func TestDecisionsSurviveTheirOwner(t *testing.T) {
	t.Parallel()
	rigs := mysqlRigs(t)
	if rigs == nil {
		t.Skip("no MySQL to test against: run ./build.sh test, or set " + mysqlVariable + " to a data source name")
	}
	t.Run("rollback after commit", func(t *testing.T) {
		asleep := rigs(t)
		asleep.turn(item(prepared, "trade", 1))
		awake := newRig(t, asleep.claim(asleep.spy.Journal), Options{})
		awake.turn(item(commit, "trade", 1))
		if got := asleep.turn(item(rollback, "trade", 1))[0]; got.Verdict != kite.Unavailable {
			t.Errorf("a rollback by the former owner: %v, want unavailable", got.Verdict)
		}
		if ids := awake.read("trade"); len(ids) != 1 || ids[0] != id(1) {
			t.Errorf("the committed message is gone: %v", ids)
		}
	})
}
