package conf

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/kiteq/kiteq/handler/deliver"
	"github.com/kiteq/kiteq/handler/sequence"
	"github.com/kiteq/kiteq/handler/session"
	"github.com/kiteq/kiteq/handler/txn"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/server/transport"
)

// Config is everything that can be set. conf/kiteq.toml shows each key at its default.
type Config struct {
	// Bind is the address to listen on, "host:port"; an empty host means all. Default ":13800".
	Bind string `toml:"bind"`
	// Advertise is the address that clients dial, a numeric "ip:port". Default: Bind's, or this host's
	// first address when Bind names none.
	Advertise string `toml:"advertise"`
	// AdminPort is the loopback port of health checks and profiles; 0 means Bind's port + 1, -1 none. Default 0.
	AdminPort int `toml:"admin_port"`
	// Topics are the topics to serve. Default ["message"].
	Topics []string `toml:"topics"`
	// ZKHost says where the registry is: "embedded", "embedded://ip:port?data=dir", "zk://host:port,..."
	// or "host:port,...". Default "embedded": 127.0.0.1:2181.
	ZKHost string `toml:"zkhost"`
	// Store says where messages are kept: "mmap://dir?sync=always|os|200ms&segment=256MiB" or
	// "memory://". Default "mmap://data/journal".
	Store string `toml:"db"`
	// ClusterName names this broker's cluster in the log. Default "default_dev".
	ClusterName string `toml:"cluster_name"`
	// InFlight is how many unanswered deliveries a connection may have. Default 32, 1 to 90: old Go
	// clients stop reading at 100.
	InFlight int `toml:"in_flight"`
	// DrainTimeout is how long a stopping broker serves the clients that are still connected. Default 10s,
	// 0s to 10m.
	DrainTimeout time.Duration `toml:"drain_timeout"`

	Network     transport.Options `toml:"network"`
	Lane        sequence.Options  `toml:"lane"`
	Delivery    deliver.Options   `toml:"delivery"`
	Transaction txn.Options       `toml:"transaction"`
}

// maxInFlight stays below what stops an old Go client from reading (interop contract §0.6).
const maxInFlight = 90

// Default returns the configuration without flags and file.
func Default() Config {
	return Config{
		Bind: ":13800", Topics: []string{"message"}, ZKHost: "embedded", Store: "mmap://data/journal",
		ClusterName: "default_dev", InFlight: session.DefaultInFlight, DrainTimeout: 10 * time.Second,
		Network:     transport.Options{}.WithDefaults(),
		Lane:        sequence.Options{}.WithDefaults(),
		Delivery:    deliver.Options{}.WithDefaults(),
		Transaction: txn.Options{}.WithDefaults(),
	}
}

// Load reads the arguments (without the program's name) and the file that they name. Flags win over the
// file. Every problem is in the error, a line each. flag.ErrHelp says that help was asked for and
// written to usage.
func Load(args []string, usage io.Writer) (Config, error) {
	c := Default()
	set := flag.NewFlagSet("kiteq", flag.ContinueOnError)
	set.SetOutput(usage)
	set.Usage = func() { help(set, usage) }
	bind := set.String("bind", c.Bind, "`address` to listen on, host:port")
	advertise := set.String("advertise", "", "numeric ip:port that clients dial (default: from -bind)")
	pport := set.Int("pport", 0, "loopback `port` of health checks and profiles; 0: that of -bind + 1, -1: none")
	topics := set.String("topics", strings.Join(c.Topics, ","), "`topics` to serve, separated by commas")
	zkhost := set.String("zkhost", c.ZKHost, "`registry`: embedded, embedded://ip:port?data=dir, zk://host:port,... or host:port,...")
	db := set.String("db", c.Store, "`store`: mmap://dir?sync=always|os|200ms, file://dir or memory://")
	cluster := set.String("clusterName", c.ClusterName, "`name` of the cluster, for the log")
	path := set.String("configPath", "", "TOML `file`")
	if err := set.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return c, err
		}
		return c, fmt.Errorf("%w: kiteq -help lists the flags", err)
	}
	if set.NArg() > 0 {
		return c, fmt.Errorf("argument %q is not understood: kiteq takes flags only, see kiteq -help", set.Arg(0))
	}
	if *path != "" {
		if err := c.readFile(*path); err != nil {
			return c, err
		}
	}
	set.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "bind":
			c.Bind = *bind
		case "advertise":
			c.Advertise = *advertise
		case "pport":
			c.AdminPort = *pport
		case "topics":
			c.Topics = split(*topics)
		case "zkhost":
			c.ZKHost = *zkhost
		case "db":
			c.Store = *db
		case "clusterName":
			c.ClusterName = *cluster
		}
	})
	c.Network.Addr = c.Bind
	return c, c.Validate()
}

// readFile decodes the file over the defaults. A key that means nothing is refused by its name.
func (c *Config) readFile(path string) error {
	meta, err := toml.DecodeFile(path, c)
	if err != nil {
		var syntax toml.ParseError
		if errors.As(err, &syntax) {
			return fmt.Errorf("configuration %s: line %d: %s", path, syntax.Position.Line, syntax.Message)
		}
		return fmt.Errorf("configuration %s: %w", path, err)
	}
	var unknown []error
	for _, key := range meta.Undecoded() {
		unknown = append(unknown, fmt.Errorf("configuration %s: key %q is not known: remove it or see conf/kiteq.toml for the name", path, key.String()))
	}
	return errors.Join(unknown...)
}

func split(list string) []string {
	var parts []string
	for part := range strings.SplitSeq(list, ",") {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}

// Validate returns every problem, a line each, or nil.
func (c *Config) Validate() error {
	var problems []error
	bad := func(format string, args ...any) {
		problems = append(problems, kite.Errorf(kite.Invalid, format, args...))
	}
	if err := checkAddr(c.Bind); err != nil {
		bad("-bind %q: %w", c.Bind, err)
	}
	if c.Advertise != "" {
		if host, _, err := net.SplitHostPort(c.Advertise); err != nil || net.ParseIP(host).To4() == nil {
			bad("-advertise %q: write a numeric IPv4 address and a port, as in 10.0.0.1:13800", c.Advertise)
		}
	}
	if c.AdminPort < -1 || c.AdminPort > 65535 {
		bad("-pport %d: use a port, 0 for that of -bind + 1, or -1 for none", c.AdminPort)
	}
	if len(c.Topics) == 0 {
		bad("-topics: name at least one topic")
	}
	for i, topic := range c.Topics {
		if err := kite.CheckTopic(topic); err != nil {
			bad("-topics: %w", err)
		}
		if slices.Contains(c.Topics[:i], topic) {
			bad("-topics: %q is named twice", topic)
		}
	}
	if _, err := ParseStore(c.Store); err != nil {
		bad("-db %w", err)
	}
	if _, err := ParseRegistry(c.ZKHost); err != nil {
		bad("-zkhost %w", err)
	}
	if c.InFlight < 1 || c.InFlight > maxInFlight {
		bad("in_flight %d: use 1 to %d", c.InFlight, maxInFlight)
	}
	if c.DrainTimeout < 0 || c.DrainTimeout > 10*time.Minute {
		bad("drain_timeout %v: use 0s to 10m", c.DrainTimeout)
	}
	problems = append(problems, c.Network.Validate(), c.Lane.Validate(), c.Delivery.Validate(), c.Transaction.Validate())
	return errors.Join(problems...)
}

func checkAddr(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return errors.New("write host:port or :port, as in :13800")
	}
	if _, err := net.LookupPort("tcp4", port); err != nil || port == "" {
		return fmt.Errorf("port %q: use 0 to 65535", port)
	}
	if host != "" && host != "localhost" && net.ParseIP(host).To4() == nil {
		return fmt.Errorf("host %q: write a numeric IPv4 address, localhost or nothing", host)
	}
	return nil
}

func help(set *flag.FlagSet, w io.Writer) {
	fmt.Fprint(w, `kiteq runs a message broker whose messages agree with the publisher's database.

  kiteq                                      everything inside: registry on 127.0.0.1:2181, journal in ./data
  kiteq -zkhost=zk://h1:2181,h2:2181 -topics=trade,fee -bind=10.0.0.1:13800
  kiteq -configPath=conf/kiteq.toml

Flags:
`)
	set.PrintDefaults()
}
