package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
	"github.com/kiteq/kiteq/store/mysql"
	"github.com/kiteq/kiteq/store/mysql/original"
)

// The URLs may come from the environment: on the command line everybody could see their passwords.
const (
	fromVariable = "KITEQ_IMPORT_FROM"
	toVariable   = "KITEQ_IMPORT_TO"
)

func newImportMySQL(g *globals) *cobra.Command {
	c := importCommand{globals: g}
	cmd := &cobra.Command{
		Use:   "import-mysql",
		Short: "Move the messages of an original KiteQ on MySQL into a mysql:// store",
		Long: `Read the tables of an original KiteQ deployment, stopped before, and append what they hold to a journal of
a mysql:// store: messages for the groups that have not taken them, undecided ones for their producers to decide,
dead letters for operators. The old tables are only read. Expired messages are left out, and so are rows that no
client can have made; they are told.

The journal belongs to the broker that --broker names, which must not run meanwhile. With the default, who shares
the store takes it over by itself a while after the import.

An import that was stopped goes on where it was: what is done is kept in the --state file. At the end the rows are
counted against what the journal has; the exit code is 1 when they differ.

The URLs are -db of the old brokers and of the new ones. They are taken from the environment, too:
` + fromVariable + ` and ` + toVariable + `.`,
		Example: `  kiteqctl import-mysql --from 'mysql://db1:3306?db=kite&username=kite&password=…&shardnum=4' \
    --to 'mysql://kiteq:…@db2:3306?db=kiteq' --broker 10.0.0.1:13800`,
		Args: cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error { return c.run(cmd.Context()) }),
	}
	cmd.Flags().StringVar(&c.from, "from", "", "`URL` of the old tables: mysql://host:port?db=…&username=…&password=…&shardnum=…")
	cmd.Flags().StringVar(&c.to, "to", "", "`URL` of the new store: mysql://user:password@host:port?db=…")
	cmd.Flags().StringVar(&c.broker, "broker", "imported", "`ID` of the broker that is to have the messages")
	cmd.Flags().StringVar(&c.state, "state", "import-mysql.json", "`FILE` that keeps what is done")
	return cmd
}

type importCommand struct {
	*globals
	from, to, broker, state string
}

// importState is what the state file keeps.
type importState struct {
	Journal uint32              `json:"journal"`
	First   map[string]kite.Seq `json:"first"` // where the import began in each stream
	Done    map[string]int64    `json:"done"`  // last id by table
	Tally   tally               `json:"tally"`
}

// importResult is what is printed at the end.
type importResult struct {
	Journal uint32 `json:"journal"`
	Broker  string `json:"broker"`
	Rows    int64  `json:"rows"`
	tally
}

func (c *importCommand) run(ctx context.Context) error {
	from, _, err := mysql.ParseURL(cmp.Or(c.from, os.Getenv(fromVariable)))
	if err != nil {
		return usage("--from: %w", err)
	}
	to, _, err := mysql.ParseURL(cmp.Or(c.to, os.Getenv(toVariable)))
	if err != nil {
		return usage("--to: %w", err)
	}
	tables, err := original.Tables(from.DB, cmp.Or(from.Shards, 4))
	if err != nil {
		return usage("--from: %w", err)
	}
	old, err := mysql.Connect(from, slog.New(slog.DiscardHandler))
	if err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	defer old.Close()
	if err := original.Check(ctx, old, tables); err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	database, err := mysql.Dial(to, slog.New(slog.DiscardHandler))
	if err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	defer database.Close()
	state, err := loadState(c.state)
	if err != nil {
		return err
	}
	journal, err := c.open(database.Shared(), state)
	if err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	defer journal.Close()
	stop := context.AfterFunc(ctx, journal.Abandon)
	defer stop()
	total := int64(state.Tally.rows())
	for _, t := range tables {
		n, err := original.Count(ctx, old, t, state.Done[t.String()])
		if err != nil {
			return err
		}
		total += n
	}
	bar := c.meter(total, "rows", false)
	bar.set(int64(state.Tally.rows()), total)
	i := importer{
		from: old, journal: journal, now: time.Now, tally: state.Tally, first: state.First,
		skip: func(t original.Table, r *original.Row, why string) {
			fmt.Fprintf(c.err, "table %s, row %d left out: %s\n", t, r.ID, why)
		},
		moved: func(rows int) { bar.add(rows) },
	}
	i.save = func(done map[string]int64) error {
		state.Done, state.Tally = done, i.tally
		return state.save(c.state)
	}
	done, err := i.run(ctx, tables, state.Done)
	bar.end()
	if err != nil {
		return fmt.Errorf("%w (what is done is in %s: the same command goes on)", err, c.state)
	}
	if err := i.check(ctx, total); err != nil {
		return err
	}
	result := importResult{state.Journal, c.broker, total, done}
	return c.print(result, fmt.Sprintf("%d rows: %d messages, %d undecided, %d dead letters; %d expired, %d were there, %d left out; journal %d of broker %s",
		total, done.Messages, done.Prepared, done.Letters, done.Expired, done.Again, done.Skipped, state.Journal, c.broker))
}

// open claims the journal of the state, or begins one.
func (c *importCommand) open(shared store.Shared, state *importState) (store.SharedJournal, error) {
	journal, err := c.claim(shared, state.Journal)
	if err != nil {
		return nil, err
	}
	if err = journal.Replay(func(*kite.Record) error { return nil }); err != nil {
		return nil, errors.Join(err, journal.Close())
	}
	state.Journal = journal.Held().Journal
	return journal, nil
}

func (c *importCommand) claim(shared store.Shared, number uint32) (store.SharedJournal, error) {
	if number == 0 {
		return shared.Create(c.broker)
	}
	all, err := shared.Held("")
	if err != nil {
		return nil, err
	}
	for _, h := range all {
		switch {
		case h.Journal != number:
		case h.Owner != c.broker:
			return nil, fmt.Errorf("journal %d, where the import began, is broker %s's now: stop that one, and give --broker %s to go on", number, h.Owner, h.Owner)
		default:
			return shared.Claim(h, c.broker)
		}
	}
	return nil, fmt.Errorf("journal %d, where the import began, is not there: is this the store of %s?", number, c.state)
}

// check compares what the tables had, what was made of it, and what the journal has.
func (i *importer) check(ctx context.Context, total int64) error {
	if int64(i.tally.rows()) != total {
		return fmt.Errorf("%d rows were read, and the tables had %d: do the old brokers still run?", i.tally.rows(), total)
	}
	messages, letters, err := i.count(ctx)
	if err != nil {
		return err
	}
	again := i.tally.Again // of them some are counted here, when the run that appended them could not say so
	if messages < i.tally.Messages || messages > i.tally.Messages+again || letters < i.tally.Letters || again == 0 && letters > i.tally.Letters {
		return fmt.Errorf("%d messages and %d dead letters were appended, and the journal has %d and %d", i.tally.Messages, i.tally.Letters, messages, letters)
	}
	return nil
}

// loadState reads the file; one that is not there is an import that has not begun.
func loadState(path string) (*importState, error) {
	s := &importState{Done: map[string]int64{}, First: map[string]kite.Seq{}}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(text, s)
	}
	if err != nil {
		return nil, fmt.Errorf("--state %s: %w", path, err)
	}
	return s, nil
}

func (s *importState) save(path string) error {
	text, err := json.Marshal(s)
	if err == nil {
		err = os.WriteFile(path+".new", append(text, '\n'), 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", filepath.Clean(path))
	}
	if err != nil {
		return fmt.Errorf("--state: %w", err)
	}
	return nil
}
