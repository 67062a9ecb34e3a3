package conf

import (
	"flag"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"
)

// clusterFlag is the flag that decides how the file is read.
const clusterFlag = "clusterName"

// versionFlag is the one that asks for the version alone.
const versionFlag = "version"

// flags returns the flags over c: parsing changes the fields whose flags are given and no others.
func flags(c *Config, path *string, usage io.Writer) *flag.FlagSet {
	set := flag.NewFlagSet("kiteq", flag.ContinueOnError)
	set.SetOutput(usage)
	set.Usage = func() { help(set, usage) }
	set.StringVar(&c.Bind, "bind", c.Bind, "`address` to listen on, host:port")
	set.StringVar(&c.Advertise, "advertise", c.Advertise, "numeric `ip:port` that clients dial (default: from -bind)")
	set.IntVar(&c.AdminPort, "pport", c.AdminPort, "`port` of health checks, counters and profiles; 0: that of -bind + 1, -1: none")
	set.StringVar(&c.AdminHost, "adminHost", c.AdminHost, "numeric `address` on which -pport listens; 0.0.0.0: all")
	set.Var((*list)(&c.Topics), "topics", "`topics` to serve, separated by commas")
	set.StringVar(&c.ZKHost, "zkhost", c.ZKHost, "`registry`: embedded, embedded://ip:port?data=dir, zk://host:port,..., host:port,... or file://path")
	set.StringVar(&c.Store, "db", c.Store, "`store`: mmap://dir?sync=always|os|200ms, file://dir, mysql://user:password@host:3306?db=kiteq, memory:// or mock://")
	set.Var((*topicSync)(&c.Sync), "sync", "`topics` synced otherwise than -db says, as in trade=always,logs=os")
	set.StringVar(&c.ClusterName, clusterFlag, c.ClusterName, "`name` of the cluster: chooses it in a file of the original KiteQ")
	set.BoolVar(&c.DeliveryFirst, "deliveryFirst", c.DeliveryFirst, "deliver while the message is being synced")
	set.StringVar(&c.LogPath, "logPath", c.LogPath, "`directory` of kiteq.log and of heap dumps (default: standard error and .)")
	set.StringVar(&c.LogXML, "logxml", c.LogXML, "log4go `file` of the original KiteQ: its level and file name count")
	set.Bool(versionFlag, false, "print the version and end")
	set.BoolVar(&c.Check, "config-check", c.Check, "say what is wrong with the configuration, a line each, and end")
	set.StringVar(path, "configPath", *path, "TOML `file`, ours or one of the original KiteQ")
	return set
}

// list is a flag of names separated by commas.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

// Set replaces the names.
func (l *list) Set(text string) error {
	*l = nil
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			*l = append(*l, part)
		}
	}
	return nil
}

func help(set *flag.FlagSet, w io.Writer) {
	fmt.Fprint(w, `kiteq runs a message broker whose messages agree with the publisher's database.

  kiteq                                      everything inside: registry on 127.0.0.1:2181, journal in ./data
  kiteq -zkhost=zk://h1:2181,h2:2181 -topics=trade,fee -bind=10.0.0.1:13800
  kiteq -configPath=conf/kiteq.toml
  kiteq -config-check -configPath=conf/kiteq.toml

Flags:
`)
	set.PrintDefaults()
}

// Version is the module's, and of a build from a working copy its commit; then Go's and the platform.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return fmt.Sprintf("%s %s %s/%s", info.Main.Version, info.GoVersion, runtime.GOOS, runtime.GOARCH)
}

// Flag returns the flag that sets the key, or "".
func Flag(k Key) (name string) {
	var c Config
	path := ""
	flags(&c, &path, io.Discard).VisitAll(func(f *flag.Flag) {
		if v := reflect.ValueOf(f.Value); v.Kind() == reflect.Pointer && v.Pointer() == k.of(&c).Addr().Pointer() {
			name = f.Name
		}
	})
	return name
}
