package main

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// The modes: what is done with the messages.
const (
	modePublish = "publish" // publish; nobody consumes
	modeE2E     = "e2e"     // publish and consume at the same time
	modeTx      = "tx"      // prepare, commit, and consume what was committed
	modeDrain   = "drain"   // publish while the group is away, then consume the backlog
	modeTopics  = "topics"  // e2e over many topics
	modeGroups  = "groups"  // e2e, and every one of many groups gets every message
	modeOwn     = "own"     // e2e, and every one of many groups gets messages of its own type
	modeApart   = "apart"   // e2e, and every one of many groups gets those of its own topic
	modeIdle    = "idle"    // e2e beside many connections that only send heartbeats
	modeCollect = "collect" // consume what waits for a group that is bound already, of whichever run
	modeFloor   = "floor"   // be the least that a broker must do, to compare with
	modeCompare = "compare" // a broker and the floor in turns
)

// modes are all of them, never written.
var modes = []string{modePublish, modeE2E, modeTx, modeDrain, modeTopics, modeGroups, modeOwn, modeApart, modeIdle, modeCollect, modeFloor, modeCompare}

// When a message leaves the window, so that the next may be published.
const (
	untilConfirmed = "confirmed"
	untilDelivered = "delivered"
)

// settling are the modes in which each message is delivered once: to one group, while it is published.
var settling = []string{modeE2E, modeTopics, modeOwn, modeApart, modeIdle}

// The paths to the broker.
const (
	viaWire   = "wire"   // frames on raw connections: the broker's cost, nearly alone
	viaClient = "client" // the Go client library, as programs use it
)

// options is what the command line says.
type options struct {
	mode, via       string
	zkhost, broker  string
	topic, kind     string // kind is the messageType; "" means one of this run's own
	group           string // "" means one of this run's own, unbound at the end
	json            string
	conns, window   int
	until           string
	rate            float64 // messages a second, all connections together; 0: as fast as the window allows
	size            int     // bytes of a body
	n               int64   // messages; 0: until d has passed
	d               time.Duration
	consumers       int // members of each group
	credit          int // deliveries that a consumer takes unanswered; 0: the broker's limit for old clients
	topics, groups  int
	idle            int
	heartbeat       time.Duration
	patience        time.Duration
	fly             bool
	pid             int // of the broker; 0: not known
	class           string
	dir, kiteq      string
	rounds          int
	commit, machine string
}

func parseOptions(args []string, usage io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("kiteq-bench", flag.ContinueOnError)
	flags.SetOutput(usage)
	flags.StringVar(&o.mode, "mode", modeE2E, "what to do: "+strings.Join(modes, ", "))
	flags.StringVar(&o.via, "via", viaWire, "wire: raw connections; client: the Go client library")
	flags.StringVar(&o.zkhost, "zkhost", "127.0.0.1:2181", "registry, to bind the groups in and for -via client to find brokers")
	flags.StringVar(&o.broker, "broker", "", "host:port of the broker; -via wire needs it")
	flags.StringVar(&o.topic, "topic", "bench", "topic, which the broker must serve; modes topics and apart add -0, -1, ... to it")
	flags.StringVar(&o.kind, "type", "", "messageType (default one of this run's own, so that its groups get nothing else)")
	flags.StringVar(&o.group, "group", "", "consumer group; modes groups, own and apart add -0, -1, ... to it (default one of this run's own, unbound at the end)")
	flags.IntVar(&o.conns, "conns", 4, "publishing connections, 1 to 10000")
	flags.IntVar(&o.window, "window", 256, "publishes of a connection that may await their answer, 1 to 65536")
	flags.StringVar(&o.until, "until", untilConfirmed, "what makes room in the window: confirmed, or delivered, which is both, and keeps a broker that confirms faster than it delivers from piling up a backlog")
	flags.Float64Var(&o.rate, "rate", 0, "messages a second, all connections together; latency counts from when each was due (0: as fast as the window allows)")
	flags.IntVar(&o.size, "size", 256, fmt.Sprintf("bytes of a body, %d to 1048576", stampSize))
	flags.Int64Var(&o.n, "n", 0, "messages to publish (0: until -d has passed)")
	flags.DurationVar(&o.d, "d", 0, "how long to publish (default 10s unless -n; mode compare: 1s)")
	flags.IntVar(&o.credit, "credit", 0, "unanswered deliveries that each consumer asks for, as newer clients do, at most 1024 (0: the broker's in_flight, as for old ones)")
	flags.IntVar(&o.consumers, "consumers", 2, "members of each consumer group, 1 to 10000")
	flags.IntVar(&o.topics, "topics", 16, "topics of mode topics, 1 to 10000")
	flags.IntVar(&o.groups, "groups", 8, "groups of the modes groups, own and apart, 1 to 1000")
	flags.IntVar(&o.idle, "idle", 1000, "idle connections of mode idle, 1 to 100000")
	flags.DurationVar(&o.heartbeat, "heartbeat", 10*time.Second, "pause between the heartbeats of an idle connection, 10ms to 1m")
	flags.DurationVar(&o.patience, "patience", 10*time.Second, "how long to wait for an answer, a connection or the next delivery before giving up, 10ms to 10m")
	flags.BoolVar(&o.fly, "fly", false, "publish fly messages, which the broker does not store")
	flags.IntVar(&o.pid, "pid", 0, "process of the broker, on this machine: its CPU, memory and writes are in the result (Linux)")
	flags.StringVar(&o.class, "class", classSynced, "durability class of mode floor, and of both in mode compare: synced or written")
	flags.StringVar(&o.dir, "dir", "data", "directory, made if missing, for the files of the modes floor and compare")
	flags.StringVar(&o.kiteq, "kiteq", "./kiteq", "the broker's program, which mode compare starts")
	flags.IntVar(&o.rounds, "rounds", 3, "mode compare: how often each load is run on each, 1 to 99; the medians count")
	flags.StringVar(&o.json, "json", "", "`file` for the result as JSON; - is standard output")
	flags.StringVar(&o.commit, "commit", "", "commit of the broker, for the result (default that of this program, when it knows)")
	flags.StringVar(&o.machine, "machine", "", "name of the machine, for the result")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q: options begin with -", flags.Arg(0))
	}
	if o.n == 0 && o.d == 0 {
		o.d = 10 * time.Second
		if o.mode == modeCompare {
			o.d = time.Second
		}
	}
	return o, o.validate()
}

// validate returns everything that is wrong.
func (o *options) validate() error {
	var p kite.Problems
	between := func(name string, value, low, high int) {
		p.Check(value >= low && value <= high, "-%s %d: use %d to %d", name, value, low, high)
	}
	p.Check(slices.Contains(modes, o.mode), "-mode %q: use one of %s", o.mode, strings.Join(modes, ", "))
	p.Check(o.via == viaWire || o.via == viaClient, "-via %q: use %s or %s", o.via, viaWire, viaClient)
	starts := o.mode == modeCompare // its brokers itself
	p.Check(o.broker != "" || o.via == viaClient || starts, "-broker: -via wire needs the host:port of a broker")
	p.Check(o.broker != "" || o.mode != modeIdle, "-broker: -mode idle needs the host:port of a broker")
	p.Check(o.zkhost != "" || o.mode == modePublish && o.broker != "" || o.mode == modeFloor || starts, "-zkhost: -mode %s needs the registry", o.mode)
	p.Check(o.rate >= 0 && o.rate <= 1e7, "-rate %g: use 0 to 10000000", o.rate)
	p.Check(o.n >= 0 && o.n <= 1<<32, "-n %d: use 0 to %d", o.n, int64(1)<<32)
	p.Check(o.d >= 0, "-d %v: use 0 or more", o.d)
	p.Check(o.patience >= 10*time.Millisecond && o.patience <= 10*time.Minute, "-patience %v: use 10ms to 10m", o.patience)
	p.Check(o.heartbeat >= 10*time.Millisecond && o.heartbeat <= time.Minute, "-heartbeat %v: use 10ms to 1m", o.heartbeat)
	p.Check(o.class == classSynced || o.class == classWritten, "-class %q: use %s or %s", o.class, classSynced, classWritten)
	p.Check(o.until == untilConfirmed || o.until == untilDelivered, "-until %q: use %s or %s", o.until, untilConfirmed, untilDelivered)
	p.Check(o.until != untilDelivered || o.via == viaWire && slices.Contains(settling, o.mode), "-until delivered: use -via wire, and -mode %s", strings.Join(settling, ", "))
	p.Check(!o.fly || o.mode != modeTx, "-fly: a fly message cannot be prepared")
	p.Check(o.mode != modeCollect || o.group != "" && o.kind != "", "-mode collect needs the -group and the -type that were published to")
	p.Check(o.pid >= 0, "-pid %d: use the number of a process", o.pid)
	between("rounds", o.rounds, 1, 99)
	between("conns", o.conns, 1, 10000)
	between("window", o.window, 1, 65536)
	between("size", o.size, stampSize, 1<<20)
	between("consumers", o.consumers, 1, 10000)
	between("credit", o.credit, 0, 1024)
	between("topics", o.topics, 1, 10000)
	between("groups", o.groups, 1, 1000)
	between("idle", o.idle, 1, 100000)
	for _, topic := range o.topicNames() {
		err := kite.CheckTopic(topic)
		p.Check(err == nil, "-topic: %v", err)
		if err != nil {
			break
		}
	}
	err := kite.CheckGroup(o.group)
	p.Check(o.group == "" || err == nil, "-group: %v", err)
	return p.Err()
}

func (o *options) topicNames() []string {
	switch o.mode {
	case modeTopics:
		return numbered(o.topic, o.topics)
	case modeApart:
		return numbered(o.topic, o.groups)
	}
	return []string{o.topic}
}

// subjects are what is published about, in turns.
func (o *options) subjects() []subject {
	var all []subject
	if o.mode == modeOwn {
		for _, kind := range numbered(o.kind, o.groups) {
			all = append(all, subject{o.topic, kind})
		}
		return all
	}
	for _, topic := range o.topicNames() {
		all = append(all, subject{topic, o.kind})
	}
	return all
}

// groupNames are the groups that consume; own is used when no group was named.
func (o *options) groupNames(own string) []string {
	base := o.group
	if base == "" {
		base = own
	}
	switch o.mode {
	case modePublish:
		return nil
	case modeGroups, modeOwn, modeApart:
		return numbered(base, o.groups)
	}
	return []string{base}
}

func numbered(base string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = base + "-" + strconv.Itoa(i)
	}
	return names
}
