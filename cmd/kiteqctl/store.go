package main

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
	"github.com/kiteq/kiteq/store/mmap"
)

func newStore(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Look into the journal of a stopped broker, or repair it",
		Long: `Look into the directory of an mmap:// journal, without any broker. Nothing in it is changed, but by
repair. It is refused while a broker has the directory open; --force reads all the same, and may then take for
torn what is just being written.`,
		Example: `  kiteqctl store verify /var/lib/kiteq
  kiteqctl store dump /var/lib/kiteq --topic trade -n 10`,
	}
	cmd.AddCommand(newVerify(g), newDump(g), newRepair(g))
	return cmd
}

func forceFlag(cmd *cobra.Command, force *bool) {
	cmd.Flags().BoolVar(force, "force", false, "read although a broker has the directory open")
}

// inspect is mmap.Inspect with a hint for who meets a broker.
func inspect(dir string, force bool, visit func(*kite.Record) bool) ([]mmap.FileReport, error) {
	reports, err := mmap.Inspect(dir, force, visit)
	if errors.Is(err, store.ErrLocked) {
		err = fmt.Errorf("%w; stop it, or give --force", err)
	}
	return reports, err
}

func newVerify(g *globals) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "verify DIR",
		Short: "Read every file of a journal and say what is damaged",
		Long: `Read every segment, index and checkpoint in DIR and print a line for each file. The exit code is 1
when one of them is damaged. What a crash leaves and the next start puts right is no damage.`,
		Example: `  kiteqctl store verify /var/lib/kiteq
  kiteqctl store verify /var/lib/kiteq -o json`,
		Args: names(0, "DIR"),
		RunE: action(func(_ *cobra.Command, args []string) error {
			reports, err := inspect(args[0], force, nil)
			if err != nil {
				return err
			}
			if err := g.printFiles(reports); err != nil {
				return err
			}
			return damage(reports)
		}),
	}
	forceFlag(cmd, &force)
	return cmd
}

// fileRow is what verify prints of a file, as JSON. Offset is there when it is known.
type fileRow struct {
	File    string `json:"file"`
	Kind    string `json:"kind"`
	Bytes   int64  `json:"bytes"`
	Batches int    `json:"batches,omitempty"`
	Records int    `json:"records"`
	Gaps    int    `json:"gaps,omitempty"`
	// GapBytes is what the gaps span.
	GapBytes int64  `json:"gap_bytes,omitempty"`
	State    string `json:"state"` // ok, note or damaged
	Offset   *int64 `json:"offset,omitempty"`
	Detail   string `json:"detail,omitempty"`
}

func newFileRow(f mmap.FileReport) fileRow {
	r := fileRow{File: filepath.Base(f.Path), Kind: f.Kind, Bytes: f.Bytes, Batches: f.Batches, Records: f.Records,
		Gaps: f.Gaps, GapBytes: f.GapBytes, State: "ok"}
	var bad *store.CorruptionError
	switch {
	case errors.As(f.Err, &bad):
		r.State, r.Detail, r.Offset = "damaged", bad.Err.Error(), &bad.Offset
	case f.Err != nil:
		r.State, r.Detail = "damaged", f.Err.Error()
	case f.Note != "":
		r.State, r.Detail = "note", f.Note
	}
	return r
}

func (r fileRow) text() string {
	state := r.State
	if r.Offset != nil {
		state += fmt.Sprintf(" at offset %d", *r.Offset)
	}
	if r.Detail != "" {
		state += ": " + r.Detail
	}
	if r.Gaps > 0 {
		state += fmt.Sprintf(", %d gaps of %d bytes", r.Gaps, r.GapBytes)
	}
	return fmt.Sprintf("%s\t%s\t%d\t%d\t%s", r.File, r.Kind, r.Bytes, r.Records, state)
}

func (g *globals) printFiles(reports []mmap.FileReport) error {
	return g.table("FILE\tKIND\tBYTES\tRECORDS\tSTATE", len(reports), func(i int) (any, string) {
		r := newFileRow(reports[i])
		return r, r.text()
	})
}

// damage returns the first one as the error of the command.
func damage(reports []mmap.FileReport) error {
	var first error
	n := 0
	for _, f := range reports {
		if f.Err == nil {
			continue
		}
		if n++; first == nil {
			first = f.Err
		}
	}
	if n > 1 {
		return fmt.Errorf("%d files are damaged; the first: %w", n, first)
	}
	return first
}

func newRepair(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "repair DIR",
		Short: "Make sound what a crash has left, and indexes anew",
		Long: `Do in DIR what the next start of a broker would do, and say what: cut a torn end, set aside what lies behind the
end of the journal, make indexes and id files again, also those whose entries mislead. What is cut or set aside is kept
in .cut files. Then every file is read again, as verify does.

Damage to the messages themselves is not repaired, since nothing could be but lost: it is told, the exit code is 1, and
nothing is changed. Restore the directory from a copy, or print with dump what can be read.`,
		Example: "  kiteqctl store repair /var/lib/kiteq",
		Args:    names(0, "DIR"),
		RunE: action(func(_ *cobra.Command, args []string) error {
			log := slog.New(slog.NewTextHandler(g.err, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey || a.Key == "component" {
					return slog.Attr{}
				}
				return a
			}}))
			failed := mmap.Repair(args[0], log)
			if errors.Is(failed, store.ErrLocked) {
				return fmt.Errorf("%w; stop it first", failed)
			}
			reports, err := inspect(args[0], false, nil)
			if err != nil {
				return firstError(failed, err)
			}
			return firstError(g.printFiles(reports), failed, damage(reports))
		}),
	}
}

// recordRow is what dump prints of a record, as JSON. Size is that of the body, bytes.
type recordRow struct {
	Position uint64     `json:"position"`
	Kind     string     `json:"kind"`
	Topic    string     `json:"topic"`
	Seq      uint64     `json:"seq,omitempty"`
	ID       string     `json:"id,omitempty"`
	Type     string     `json:"type,omitempty"`
	Group    string     `json:"group,omitempty"`
	Time     *time.Time `json:"time,omitempty"`
	Expires  *time.Time `json:"expires,omitempty"`
	Ref      uint64     `json:"ref,omitempty"`
	Size     int        `json:"size"`
}

func newRecordRow(r *kite.Record) recordRow {
	row := recordRow{
		Position: uint64(r.Position), Kind: r.Kind.String(), Topic: r.Topic, Seq: uint64(r.Seq),
		Type: string(r.Type), Group: string(r.Group), Time: milliseconds(r.TimeMs), Expires: milliseconds(r.ExpiresMs),
		Ref: uint64(r.Ref), Size: len(r.Body),
	}
	if r.ID != (kite.MessageID{}) {
		row.ID = r.ID.String()
	}
	return row
}

func milliseconds(ms int64) *time.Time {
	if ms == 0 {
		return nil
	}
	return moment(time.UnixMilli(ms))
}

func (r recordRow) text() string {
	at, seq, id := "-", "-", "-"
	if r.Time != nil {
		at = r.Time.Format(time.RFC3339Nano)
	}
	if r.Seq > 0 {
		seq = strconv.FormatUint(r.Seq, 10)
	}
	if r.ID != "" {
		id = r.ID
	}
	return strings.Join([]string{r.Kind, oneLine([]byte(r.Topic)), seq, id, at, strconv.Itoa(r.Size)}, " ")
}

func newDump(g *globals) *cobra.Command {
	var topic string
	var from uint64
	var count int
	var force bool
	cmd := &cobra.Command{
		Use:   "dump DIR",
		Short: "Print the records of a journal",
		Long: `Print a line for each record of the segments in DIR, in journal order: kind, topic, sequence, id, time
and size of the body. What is trimmed is not there. Damage does not end it: all whole records are
printed but those behind it in the same file, and the exit code is 1.`,
		Example: `  kiteqctl store dump /var/lib/kiteq --topic trade --from 4711 -n 10
  kiteqctl store dump /var/lib/kiteq -o json`,
		Args: names(0, "DIR"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("count") && count < 1 {
				return usage("--count %d: give 1 or more", count)
			}
			ctx := cmd.Context()
			var failed error
			n := 0
			reports, err := inspect(args[0], force, func(r *kite.Record) bool {
				if topic != "" && r.Topic != topic || uint64(r.Seq) < from {
					return ctx.Err() == nil
				}
				n++
				row := newRecordRow(r)
				failed = firstError(g.print(row, row.text()), ctx.Err())
				return failed == nil && n != count
			})
			if err = firstError(failed, err); err != nil {
				return err
			}
			return firstError(ctx.Err(), damage(reports))
		}),
	}
	cmd.Flags().StringVar(&topic, "topic", "", "only records of `TOPIC`")
	cmd.Flags().Uint64Var(&from, "from", 0, "only records with a sequence of `SEQ` or more")
	cmd.Flags().IntVarP(&count, "count", "n", 0, "at most `N` records (default all)")
	forceFlag(cmd, &force)
	return cmd
}
