package conf

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"slices"
	"time"

	"github.com/kiteq/kiteq/handler/access"
	"github.com/kiteq/kiteq/handler/deliver"
	"github.com/kiteq/kiteq/handler/sequence"
	"github.com/kiteq/kiteq/handler/session"
	"github.com/kiteq/kiteq/handler/txn"
	"github.com/kiteq/kiteq/handler/webhook"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/server/guard"
	"github.com/kiteq/kiteq/server/transport"
)

// Config is everything that can be set. conf/kiteq.toml shows each key at its default.
type Config struct {
	// Bind is the address to listen on, "host:port"; an empty host means all. Default ":13800".
	Bind string `toml:"bind"`
	// Advertise is the address that clients dial, a numeric "ip:port". Default: Bind's, or this host's
	// first address when Bind names none.
	Advertise string `toml:"advertise"`
	// AdminPort is the port of health checks, counters and profiles; 0 means Bind's port + 1, -1 none. Default 0.
	AdminPort int `toml:"admin_port"`
	// AdminHost is the numeric IPv4 address on which AdminPort listens. Whoever reaches it reads profiles
	// and has the topics read again, so the default is 127.0.0.1.
	AdminHost string `toml:"admin_host"`
	// Topics are the topics to serve. Default ["message"]. Read again by /reload.
	Topics []string `toml:"topics" reload:"live"`
	// ZKHost says where the registry is: "embedded", "embedded://ip:port?data=dir", "zk://host:port,...",
	// "host:port,..." or "file://path". Default "embedded": 127.0.0.1:2181.
	ZKHost string `toml:"zkhost" secret:"yes"`
	// BindingsFile is where the last bindings are kept that ZooKeeper told, so that the broker can start
	// while it is away; "" means nowhere. Default "data/bindings.json".
	BindingsFile string `toml:"bindings_file"`
	// Store says where messages are kept: "mmap://dir?sync=always|os|200ms&segment=256MiB",
	// "mysql://user:password@master:3306,replica:3306?db=kiteq", "memory://" or, to measure the network without a
	// store, "mock://". Default "mmap://data/journal".
	Store string `toml:"db" secret:"yes"`
	// Sync says for single topics how their messages are synced: "always" answers them after fdatasync, "os"
	// leaves it to the operating system. The others are synced as Store says. Default none.
	Sync map[string]string `toml:"sync"`
	// ClusterName chooses the cluster in a file of the original KiteQ and names this broker's in the log.
	// Default "default_dev".
	ClusterName string `toml:"cluster_name"`
	// AcceptPerSecond is how many publishes a second all clients together may send, half of them at once;
	// the rest is refused as overflow. The topics share it: each gets what it asks for, up to an equal part, before
	// another gets more. Default 0: no limit; at most 2147483647.
	AcceptPerSecond int `toml:"accept_per_second" reload:"live"`
	// MetricsNames is how many topics, groups, and pairs of both have series of their own in /metrics; the others
	// are added up. Default 1000, 1 to 100000.
	MetricsNames int `toml:"metrics_names"`
	// DeliveryFirst asks for delivery while the message is being synced. Default false.
	DeliveryFirst bool `toml:"delivery_first"`
	// LogPath is the directory of the log file, kiteq.log unless LogXML names another. Default "": standard error.
	LogPath string `toml:"log_path"`
	// LogXML is a log4go file of the original KiteQ, of which the level and the file name count. Default "".
	LogXML string `toml:"log_xml"`
	// LogLevel is what is logged at least: debug, info, warn or error. Default "": that of LogXML, or info.
	LogLevel string `toml:"log_level" reload:"live"`
	// LogFormat is how a line is written: text or json. Default text.
	LogFormat string `toml:"log_format"`
	// InFlight is how many unanswered deliveries a connection may have. Default 32, 1 to 90: old Go
	// clients stop reading at 100.
	InFlight int `toml:"in_flight" reload:"live"`
	// DrainTimeout is how long a stopping broker serves the clients that are still connected. Default 10s,
	// 0s to 10m.
	DrainTimeout time.Duration `toml:"drain_timeout" reload:"live"`

	Network     transport.Options `toml:"network"`
	TLS         transport.TLS     `toml:"tls"`
	Auth        access.Options    `toml:"auth"`
	Accept      kite.Limits       `toml:"accept"`
	Lane        sequence.Options  `toml:"lane"`
	Delivery    deliver.Options   `toml:"delivery"`
	Transaction txn.Options       `toml:"transaction"`
	Webhook     webhook.Options   `toml:"webhook"`
	Limits      guard.Options     `toml:"limits"`

	// Rules are what Auth.File says.
	Rules access.Rules `toml:"-"`
	// Path is the file that was read, "" when there was none. Check asks to look at the configuration only.
	Path  string `toml:"-"`
	Check bool   `toml:"-"`
	// Notes say what is set that means nothing, or something else, here. They are for the log.
	Notes []string `toml:"-"`
}

const (
	// maxInFlight stays below what stops an old Go client from reading (interop contract §0.6).
	maxInFlight = 90
	// maxAccept is what the operators' tools can hold.
	maxAccept = math.MaxInt32
	// maxNames keeps an answer of /metrics below some hundred MB.
	maxNames = 100_000
)

// Default returns the configuration without flags and file.
func Default() Config {
	return Config{
		Bind: ":13800", AdminHost: "127.0.0.1", Topics: []string{"message"},
		ZKHost: "embedded", BindingsFile: "data/bindings.json", Store: "mmap://data/journal", Sync: map[string]string{},
		ClusterName: "default_dev", InFlight: session.DefaultInFlight, MetricsNames: 1000, LogFormat: formatText, DrainTimeout: 10 * time.Second,
		Network:     transport.Options{}.WithDefaults(),
		Accept:      kite.Limits{}.WithDefaults(),
		Lane:        sequence.Options{}.WithDefaults(),
		Delivery:    deliver.Options{}.WithDefaults(),
		Transaction: txn.Options{}.WithDefaults(),
		Webhook:     webhook.Options{}.WithDefaults(),
		Limits:      guard.Options{}.WithDefaults(),
	}
}

// Load reads the arguments (without the program's name) and the file that they name, which may be one of
// the original KiteQ. Flags win over the file. Every problem is in the error, a line each. flag.ErrHelp
// says that help was asked for and written to usage.
func Load(args []string, usage io.Writer) (Config, error) {
	first, path := Default(), ""
	set := flags(&first, &path, usage)
	if err := set.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return first, err
		}
		return first, fmt.Errorf("%w: kiteq -help lists the flags", err)
	}
	if set.Lookup(versionFlag).Value.String() == "true" {
		fmt.Fprintln(usage, "kiteq "+Version())
		return first, flag.ErrHelp
	}
	if set.NArg() > 0 {
		return first, fmt.Errorf("argument %q is not understood: kiteq takes flags only, see kiteq -help", set.Arg(0))
	}
	c := Default()
	var problems []error
	if path != "" {
		cluster := "" // the flag chooses the cluster before the file is understood
		set.Visit(func(f *flag.Flag) {
			if f.Name == clusterFlag {
				cluster = first.ClusterName
			}
		})
		var err error
		if problems, err = c.readFile(path, cluster); err != nil {
			return c, err
		}
	}
	if err := flags(&c, &path, io.Discard).Parse(args); err != nil { // again, over the file
		return c, err
	}
	c.Network.Addr, c.Path = c.Bind, path
	c.Notes = append(c.Notes, c.unserved()...)
	if _, _, err := c.levelAndFile(); c.Check && c.LogXML != "" {
		problems = append(problems, err) // else OpenLog says it
	}
	if c.Check && c.TLS.Listen != "" && c.TLS.Validate() == nil {
		_, err := transport.LoadCertificates(c.TLS, slog.New(slog.DiscardHandler))
		problems = append(problems, err)
	}
	return c, errors.Join(append(problems, c.readRules(), c.Validate())...)
}

// Validate returns every problem, a line each, or nil.
func (c *Config) Validate() error {
	var problems []error
	bad := func(format string, args ...any) {
		problems = append(problems, kite.Errorf(kite.Invalid, format, args...))
	}
	c.validateAddrs(bad)
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
	c.validateSync(bad)
	if _, err := ParseLevel(c.LogLevel); err != nil && c.LogLevel != "" {
		problems = append(problems, err)
	}
	if c.LogFormat != formatText && c.LogFormat != formatJSON {
		bad("log_format %.32q: use text or json", c.LogFormat)
	}
	if _, err := ParseRegistry(c.ZKHost); err != nil {
		bad("-zkhost %w", err)
	}
	if c.AcceptPerSecond < 0 || c.AcceptPerSecond > maxAccept {
		bad("accept_per_second %d: use 1 to %d, or 0 for no limit", c.AcceptPerSecond, maxAccept)
	}
	if c.InFlight < 1 || c.InFlight > maxInFlight {
		bad("in_flight %d: use 1 to %d", c.InFlight, maxInFlight)
	}
	if c.MetricsNames < 1 || c.MetricsNames > maxNames {
		bad("metrics_names %d: use 1 to %d", c.MetricsNames, maxNames)
	}
	if c.DrainTimeout < 0 || c.DrainTimeout > 10*time.Minute {
		bad("drain_timeout %v: use 0s to 10m", c.DrainTimeout)
	}
	problems = append(problems, c.Network.Validate(), c.TLS.Validate(), c.Accept.Validate(), c.Lane.Validate(), c.Delivery.Validate(), c.Transaction.Validate(), c.Webhook.Validate(), c.Limits.Validate())
	return errors.Join(problems...)
}

func (c *Config) validateAddrs(bad func(format string, args ...any)) {
	if err := checkAddr(c.Bind); err != nil {
		bad("-bind %q: %w", c.Bind, err)
	}
	if c.TLS.Listen != "" {
		if err := checkAddr(c.TLS.Listen); err != nil {
			bad("tls listen %q: %w", c.TLS.Listen, err)
		}
	}
	if c.Advertise != "" {
		if host, _, err := net.SplitHostPort(c.Advertise); err != nil || net.ParseIP(host).To4() == nil {
			bad("-advertise %q: write a numeric IPv4 address and a port, as in 10.0.0.1:13800", c.Advertise)
		}
	}
	if c.AdminPort < -1 || c.AdminPort > 65535 {
		bad("-pport %d: use a port, 0 for that of -bind + 1, or -1 for none", c.AdminPort)
	}
	if net.ParseIP(c.AdminHost).To4() == nil {
		bad("-adminHost %q: write a numeric IPv4 address, 127.0.0.1 for this machine only or 0.0.0.0 for all", c.AdminHost)
	}
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
