package conf

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, // gnet's worker pool is package-wide and never ends
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"))
}

func TestOpenLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	xml := func(name, level, file string) string {
		path := filepath.Join(dir, name)
		text := fmt.Sprintf(`<logging><filter enabled="true"><type>file</type><level>%s</level><property name="filename"> %s </property></filter></logging>`, level, file)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, test := range []struct {
		name      string
		path, xml string
		file      string
		level     slog.Level
	}{
		{name: "nothing"},
		{name: "path", path: dir + "/a/b", file: dir + "/a/b/kiteq.log"},
		{name: "xml", xml: xml("1.xml", "ERROR", dir+"/c/broker.log"), file: dir + "/c/broker.log", level: slog.LevelError},
		{name: "both", path: dir + "/d", xml: xml("2.xml", "fine", "./logs/broker.log"), file: dir + "/d/broker.log", level: slog.LevelDebug},
		{name: "level only", xml: xml("3.xml", "WARNING", ""), level: slog.LevelWarn},
	} {
		var otherwise bytes.Buffer
		l, err := OpenLog(Config{LogPath: test.path, LogXML: test.xml}, &otherwise)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if l.File != test.file || l.Level.Level() != test.level {
			t.Errorf("%s: file %q, level %s; want %q, %s", test.name, l.File, l.Level.Level(), test.file, test.level)
		}
		slog.New(slog.NewTextHandler(l, nil)).Info("a line")
		if err := l.Close(); err != nil {
			t.Errorf("%s: close: %v", test.name, err)
		}
		got := otherwise.String()
		if test.file != "" {
			data, err := os.ReadFile(test.file)
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
			if got != "" {
				t.Errorf("%s: %q did not go to the file", test.name, got)
			}
			got = string(data)
		}
		if strings.Count(got, "a line") != 1 {
			t.Errorf("%s: the log is %q", test.name, got)
		}
	}
}

// TestLogRotates writes more than one file holds.
func TestLogRotates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := OpenLog(Config{LogPath: dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	line := bytes.Repeat([]byte("0123456789abcde\n"), 1<<16) // 1 MiB
	for range logMiB + 1 {
		if _, err := l.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(dir + "/kiteq*.log")
	if err != nil || len(files) != 2 {
		t.Fatalf("files %q, %v; want the log and one that was rotated", files, err)
	}
	if info, err := os.Stat(filepath.Join(dir, logName)); err != nil || info.Size() != 1<<20 {
		t.Errorf("the new file: %v, %v; want 1 MiB", info, err)
	}
}

func TestOpenLogProblems(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	taken := filepath.Join(dir, "taken")
	if err := os.WriteFile(taken, []byte("<logging><filter enabled=\"false\"/></logging>"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		config Config
		want   []string
	}{
		"no such file":     {Config{LogXML: dir + "/gone.xml"}, []string{"-logxml", "gone.xml", "correct the path"}},
		"nothing enabled":  {Config{LogXML: taken}, []string{taken, "none of the 1 filters is enabled"}},
		"not a directory":  {Config{LogPath: taken}, []string{taken, "-logPath"}},
		"is the directory": {Config{LogPath: dir + "/x"}, []string{"kiteq.log", "-logPath"}},
	} {
		if name == "is the directory" {
			if err := os.MkdirAll(dir+"/x/kiteq.log", 0o700); err != nil {
				t.Fatal(err)
			}
		}
		l, err := OpenLog(test.config, nil)
		if err == nil {
			t.Errorf("%s: was opened: %+v", name, l)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q is not in: %v", name, want, err)
			}
		}
	}
}

func TestParseLog4go(t *testing.T) {
	t.Parallel()
	shipped, err := os.ReadFile("testdata/log.xml")
	if err != nil {
		t.Fatal(err)
	}
	level, file, err := parseLog4go(shipped)
	if err != nil || level != slog.LevelWarn || file != "./logs/kiteq_server.log" {
		t.Errorf("testdata/log.xml: %s %q %v", level, file, err)
	}
	filter := func(enabled, level, file string) string {
		if file != "" {
			file = `<property name="filename">` + file + `</property>`
		}
		return `<filter enabled="` + enabled + `"><level>` + level + `</level>` + file + `</filter>`
	}
	for _, test := range []struct {
		name, filters string
		level         slog.Level
		file, bad     string
	}{
		{name: "console", filters: filter("true", "CRITICAL", ""), level: slog.LevelError},
		{name: "file before console", filters: filter("true", "DEBUG", "") + filter("TRUE", "ERROR", "a") + filter("true", "INFO", "b"), level: slog.LevelError, file: "a"},
		{name: "disabled file", filters: filter("false", "DEBUG", "a") + filter("true", "TRACE", ""), level: slog.LevelDebug},
		{name: "no level", filters: filter("true", "", "a"), bad: `level ""`},
		{name: "unknown level", filters: filter("true", "LOUD", "a"), bad: `level "LOUD"`},
		{name: "no filter", bad: "none of the 0 filters"},
		{name: "no XML", filters: "<", bad: "no log4go configuration"},
	} {
		level, file, err := parseLog4go([]byte("<logging>" + test.filters + "</logging>"))
		switch {
		case test.bad != "":
			if err == nil || !strings.Contains(err.Error(), test.bad) {
				t.Errorf("%s: %v, want %q", test.name, err, test.bad)
			}
		case err != nil || level != test.level || file != test.file:
			t.Errorf("%s: %s %q %v, want %s %q", test.name, level, file, err, test.level, test.file)
		}
	}
}

// FuzzLog4go feeds anything: a level that we know comes out, or an error.
func FuzzLog4go(f *testing.F) {
	if shipped, err := os.ReadFile("testdata/log.xml"); err == nil {
		f.Add(shipped)
	}
	f.Add([]byte("<logging/>"))
	f.Fuzz(func(t *testing.T, data []byte) {
		level, _, err := parseLog4go(data)
		if err == nil && level%4 != 0 {
			t.Errorf("level %d", level)
		}
	})
}

// TestLogLevelAndFormat: log_level wins over the log4go file, and JSON lines are JSON.
func TestLogLevelAndFormat(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l, err := OpenLog(Config{LogXML: "testdata/log.xml", LogPath: t.TempDir(), LogLevel: "error", LogFormat: "json"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.Writer = &out
	log := l.Logger()
	log.Warn("hidden")
	l.Level.Set(slog.LevelDebug)
	log.Debug("shown", "topic", "a\nb")
	var line struct{ Level, Msg, Topic string }
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || line.Level != "DEBUG" || line.Msg != "shown" || line.Topic != "a\nb" {
		t.Errorf("%+v, %v in %s", line, err, &out)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{"log_level = \"loud\"": `log_level "loud"`, "log_format = \"xml\"": `log_format "xml"`} {
		path := filepath.Join(t.TempDir(), "kiteq.toml")
		if err := os.WriteFile(path, []byte(args), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load([]string{"-configPath=" + path}, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", args, err)
		}
	}
}
