package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/conf"
)

// Exit codes. Scripts rely on them.
const (
	exitOK    = 0
	exitError = 1 // it did not work
	exitUsage = 2 // the command line, or a value in it, is wrong
	exitNone  = 3 // no broker knows the message, transaction, group or dead letter
)

// secretVariable names the environment variable with the group's secret key: on the command line
// everybody could see it.
const secretVariable = "KITEQ_SECRET_KEY"

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, t terminal) int {
	root := newRoot(t)
	root.SetArgs(args)
	root.SetIn(t.in)
	root.SetOut(t.out)
	root.SetErr(t.err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(t.err, "kiteqctl: "+strings.ReplaceAll(err.Error(), "\n", "; "))
	var failed *failure
	if errors.Is(err, errUnknown) {
		return exitNone
	}
	if errors.As(err, &failed) && client.CodeOf(err) != client.Invalid {
		return exitError
	}
	return exitUsage
}

// failure is an error of a command that was understood; all others are of the command line.
type failure struct{ error }

func (f *failure) Unwrap() error { return f.error }

// globals are the flags of every command.
type globals struct {
	terminal
	zkhost, broker, admin, group, output string
	timeout                              time.Duration
	zkhostGiven                          bool
	security                             security
	line                                 *sync.Mutex // held while a line is printed
}

// The groups of who names none. They differ, since a publisher that is a member of a consumer group
// gets its share of the deliveries.
const (
	publisherGroup  = "p-kiteqctl"
	subscriberGroup = "s-kiteqctl"
)

func newGlobals(t terminal) *globals { return &globals{terminal: t, line: new(sync.Mutex)} }

func newRoot(t terminal) *cobra.Command {
	g := newGlobals(t)
	root := &cobra.Command{
		Use:   "kiteqctl",
		Short: "Publish to KiteQ brokers, subscribe to them, explain messages, decide transactions, direct groups",
		Long: `kiteqctl talks to KiteQ brokers as a client does. It finds them in ZooKeeper (--zkhost), where
the broker that "./build.sh run" starts registers, too; or --broker names one. What operators order and ask
(explain, peek, brokers, drain, groups, pause, resume, seek, delayed, dlq, tx list, show, check) goes over HTTP to the port above that, or to
--admin.

Exit codes: 0 done, 1 it did not work, 2 the command line is wrong, 3 no broker knows what it is about.
They stay as they are, and so do the names in what -o json prints; new ones may come. Errors are one line on the
error output. Colours and progress are shown on a terminal only, and no colours where NO_COLOR is set.
The secret key of the group, if brokers want one, is read from the environment:
` + secretVariable + `; NAME:TOKEN of an operator from ` + tokenVariable + `.`,
		Example: `  kiteqctl sub trade pay-succ --group s-books     # in one terminal
  kiteqctl pub trade pay-succ 'order 17'          # in another one
  kiteqctl groups                                 # who gets what, and how far behind they are
  kiteqctl explain 0123456789abcdef0123456789abcdef`,
		Version:       conf.Version(),
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			g.zkhostGiven = cmd.Flags().Changed("zkhost")
			return g.validate()
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	flags := root.PersistentFlags()
	flags.StringVar(&g.zkhost, "zkhost", "127.0.0.1:2181", "ZooKeeper `ADDR`: host:port,host:port or zk://host:port/chroot")
	flags.StringVar(&g.broker, "broker", "", "broker `ADDR` (host:port) to use instead of discovery; then sub binds only if --zkhost is given, too")
	flags.StringVar(&g.admin, "admin", "", "operators' `ADDR` of brokers: host:port or http://host:port, several with commas (default: the port above the brokers')")
	flags.StringVar(&g.group, "group", "", "`GROUP` to be a member of (default "+publisherGroup+", for sub "+subscriberGroup+")")
	g.security.register(flags)
	flags.DurationVar(&g.timeout, "timeout", 10*time.Second, "how long to wait for brokers and their answers")
	flags.StringVarP(&g.output, "output", "o", "text", "`FORMAT` of what is printed: text or json (one object a line)")
	root.AddCommand(newPub(g), newSub(g), newTx(g), newTopics(g), newGroups(g), newBindings(g), newStore(g), newImportMySQL(g), newDocs(),
		newExplain(g), newPeek(g), newBrokers(g), newDrain(g), newConfig(g), newBench(g), newPause(g), newResume(g), newSeek(g), newDelayed(g), newDLQ(g), newHash(g))
	g.completeAll(root)
	_ = root.RegisterFlagCompletionFunc("group", g.completion("GROUP"))
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return root
}

func (g *globals) validate() error {
	if g.output != "text" && g.output != "json" {
		return fmt.Errorf("--output %q: give text or json", g.output)
	}
	if g.timeout <= 0 {
		return fmt.Errorf("--timeout %s: give more than 0, for example 10s", g.timeout)
	}
	return nil
}

// action makes a RunE whose errors count as failures of the command, not of the command line.
func action(f func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := f(cmd, args); err != nil {
			return &failure{err}
		}
		return nil
	}
}

// names is a cobra.PositionalArgs that says what is missing by its name, such as TOPIC; the last
// optional ones may be absent.
func names(optional int, all ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(all)-optional:
			return fmt.Errorf("%s is missing: %s", all[len(args)], cmd.UseLine())
		case len(args) > len(all):
			return fmt.Errorf("%q is one argument too many: %s (put a body with spaces in quotes)", args[len(all)], cmd.UseLine())
		}
		return nil
	}
}

// usage is an error of a value on the command line.
func usage(format string, args ...any) error {
	return &client.Error{Code: client.Invalid, Err: fmt.Errorf(format, args...)}
}
