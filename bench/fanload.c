// A load client for rooms over WebSockets that costs little itself: one thread, one epoll, no allocation per message.
//
// It opens N connections (C handshakes at a time), lets each say one frame (a join), then publishes at a fixed rate
// and counts what comes back. Every published text carries the time it was due, and every delivery is measured against
// it: a server, or a load client, that falls behind shows as latency and never as a lower rate. It prints lines of JSON:
// the moments when measuring begins and ends, then what was measured.
//
//   cc -O2 -o fanload fanload.c
//   fanload -p PORT -n CONNECTIONS [-u PATH | -f FILE of paths] [-j JOIN] [-k WORD] [-g ROOMS] [-m TEMPLATE]
//           [-r POSTS/s] [-s SECONDS] [-w WARM-UP] [-b BYTES] [-P PUBLISHERS per room] [-c HANDSHAKES] [-H]
//
// In PATH, JOIN and TEMPLATE %I is the connection's number and %G its room's (connection i is in room i % ROOMS). In
// TEMPLATE `@` is the text, and `#`, if there, a reference that an acknowledgement repeats. A connection has joined
// when a frame with WORD has come. With -H nothing is published: the connections are held, and every line
// on stdin sends one message and prints how long it took to the first and to the last; the end of stdin ends it.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define BUFFER (256 * 1024)  // longest frame read; touched only as far as it is used
#define MARK 24              // "@@" 20 digits of nanoseconds "@@"
#define PATIENCE 60.0        // seconds without any progress after which we give up

enum { CONNECTING, SHAKING, JOINING, LIVE, CLOSED };
typedef struct {
  int fd, state, wants_out;
  char *in, *out;
  size_t in_len, out_len, out_at, out_cap;
} Conn;

static const char *host = "127.0.0.1", *path = "/", *join, *joined_word, *template = "@", *subprotocol;
static char **paths;
static int port = 8080, conns = 100, publishers = 1, rooms = 1, parallel = 64, size = 128, path_count, hold;
static double rate = 100, seconds = 5, warm_up = 1;

static Conn *all;
static int poller, live, opened, closed_count, close_code;
static int64_t window_from, window_to, last_delivery;
static uint64_t delivered, acknowledged, errors, frames, bytes;
static char first_error[200];

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void give_up(const char *why, const char *detail, int n) {
  fprintf(stderr, "fanload: %s: %.*s\n", why, n, detail);
  exit(1);
}

// Latencies: 128 steps for every doubling, so a percentile is true within 1 %.
typedef struct {
  uint64_t count[57 * 128 + 128], n;
  int64_t max, min;
} Histogram;
static Histogram deliveries, acks;

static void record(Histogram *h, int64_t v) {
  if (v < 1) v = 1;
  int e = 63 - __builtin_clzll(v) - 7;
  if (e < 0) e = 0;
  h->count[e * 128 + (v >> e)]++;
  if (v > h->max) h->max = v;
  if (!h->n || v < h->min) h->min = v;
  h->n++;
}

static double at_share(const Histogram *h, double share) {
  uint64_t left = share * (h->n - 1);
  if (!h->n) return 0;
  for (size_t i = 0; i < sizeof h->count / 8; i++) {
    if (left < h->count[i]) {
      int e = i < 256 ? 0 : i / 128 - 1;
      int64_t v = (int64_t)(i - e * 128) << e;
      return (v > h->max ? h->max : v) / 1e6;
    }
    left -= h->count[i];
  }
  return h->max / 1e6;
}

static void print_latencies(const char *name, const Histogram *h) {
  printf("\"%s\":{\"count\":%llu,\"min\":%.3f,\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,\"p999\":%.3f,\"max\":%.3f}", name,
         (unsigned long long)h->n, h->min / 1e6, at_share(h, .5), at_share(h, .9), at_share(h, .99), at_share(h, .999),
         h->max / 1e6);
}

// Frames out: masked (RFC 6455, 5.3), appended to what waits.
static void want_out(Conn *c, int on) {
  if (c->wants_out == on) return;
  c->wants_out = on;
  struct epoll_event ev = {.events = EPOLLIN | (on ? EPOLLOUT : 0), .data.u32 = c - all};
  epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &ev);
}

static void flush_out(Conn *c) {
  while (c->out_at < c->out_len) {
    ssize_t k = write(c->fd, c->out + c->out_at, c->out_len - c->out_at);
    if (k < 0) break;  // full, or gone: then the next read tells
    c->out_at += k;
  }
  if (c->out_at == c->out_len) c->out_at = c->out_len = 0;
  want_out(c, c->out_len > 0);
}

static char *reserve_out(Conn *c, size_t n) {
  if (c->out_len + n > c->out_cap) {
    c->out_cap = (c->out_len + n) * 2;
    c->out = realloc(c->out, c->out_cap);
  }
  return c->out + c->out_len;
}

static void send_frame(Conn *c, int opcode, const char *payload, size_t n) {
  unsigned char *d = (unsigned char *)reserve_out(c, n + 14), mask[4];
  size_t h = 0;
  uint32_t m = (uint32_t)random();
  memcpy(mask, &m, 4);
  d[h++] = 0x80 | opcode;
  if (n < 126) {
    d[h++] = 0x80 | n;
  } else {
    d[h++] = 0x80 | 126;
    d[h++] = n >> 8;
    d[h++] = n & 255;
  }
  memcpy(d + h, mask, 4);
  h += 4;
  for (size_t i = 0; i < n; i++) d[h + i] = payload[i] ^ mask[i & 3];
  c->out_len += h + n;
  flush_out(c);
}

// `%I`, `%G`, `@` and `#` replaced; the length is returned. `due` is what the marks say.
static size_t fill(char *d, const char *t, int i, int64_t due) {
  char *start = d;
  for (; *t; t++) {
    if (t[0] == '%' && t[1] == 'I') d += sprintf(d, "%d", i), t++;
    else if (t[0] == '%' && t[1] == 'G') d += sprintf(d, "%d", i % rooms), t++;
    else if (due && *t == '#') d += sprintf(d, "##%020lld##", (long long)due);
    else if (due && *t == '@') {
      d += sprintf(d, "@@%020lld@@", (long long)due);
      for (int k = MARK; k < size; k++) *d++ = 'x';
    } else *d++ = *t;
  }
  *d = 0;
  return d - start;
}

static const char *find_mark(const char *p, size_t n, char c) {
  static size_t hint[2];  // where it was in the last frame: mostly it is there again
  size_t *at = &hint[c == '#'];
  const char ends[2] = {c, c};
  if (*at + MARK <= n && !memcmp(p + *at, ends, 2) && !memcmp(p + *at + MARK - 2, ends, 2)) return p + *at;
  const char *m = memmem(p, n, ends, 2);
  if (!m || m + MARK > p + n || memcmp(m + MARK - 2, ends, 2)) return NULL;
  *at = m - p;
  return m;
}

static int64_t read_mark(const char *m) {
  int64_t t = 0;
  for (int i = 2; i < 22; i++) t = t * 10 + (m[i] - '0');
  return t;
}

static void joined(Conn *c) {
  c->state = LIVE;
  live++;
}

static void on_text(Conn *c, const char *p, size_t n, int64_t now) {
  frames++;
  if (c->state == JOINING && (!joined_word || memmem(p, n, joined_word, strlen(joined_word)))) joined(c);
  const char *m = find_mark(p, n, '@');
  if (m) {
    int64_t due = read_mark(m);
    if (due < window_from || due >= window_to) return;
    delivered++;
    last_delivery = now;
    record(&deliveries, now - due);
  } else if ((m = find_mark(p, n, '#'))) {
    int64_t due = read_mark(m);
    if (due < window_from || due >= window_to) return;
    acknowledged++;
    record(&acks, now - due);
  } else if (memmem(p, n < 40 ? n : 40, "\"error\"", 7)) {
    if (!errors++) snprintf(first_error, sizeof first_error, "%.*s", (int)n, p);
  }
}

static void on_frames(Conn *c) {
  size_t at = 0;
  int64_t now = now_ns();
  while (c->in_len - at >= 2) {
    unsigned char *b = (unsigned char *)c->in + at;
    size_t n = b[1] & 127, h = n == 126 ? 4 : n == 127 ? 10 : 2, have = c->in_len - at;
    if (have < h) break;
    if (n == 126) n = b[2] << 8 | b[3];
    else if (n == 127)
      for (int i = n = 0; i < 8; i++) n = n << 8 | b[2 + i];
    if (h + n > BUFFER) give_up("frame too large", "", 0);
    if (have < h + n) break;
    char *payload = (char *)b + h;
    int opcode = b[0] & 15;
    if (opcode == 9) send_frame(c, 10, payload, n);
    else if (opcode == 8) close_code = n >= 2 ? (unsigned char)payload[0] << 8 | (unsigned char)payload[1] : 1005;
    else on_text(c, payload, n, now);
    at += h + n;
  }
  if (at) memmove(c->in, c->in + at, c->in_len -= at);
}

static void lost(Conn *c) {
  if (c->state < LIVE) give_up("closed while connecting", c->in ? c->in : "", (int)c->in_len);
  c->state = CLOSED;
  live--;
  closed_count++;
  close(c->fd);
}

static void on_readable(Conn *c) {
  ssize_t k = read(c->fd, c->in + c->in_len, BUFFER - c->in_len);
  if (k <= 0) {
    if (k == 0 || errno != EAGAIN) lost(c);
    return;
  }
  bytes += k;
  c->in_len += k;
  if (c->state == SHAKING) {
    char *end = memmem(c->in, c->in_len, "\r\n\r\n", 4);
    if (!end) return;
    if (strncmp(c->in, "HTTP/1.1 101", 12)) give_up("no upgrade", c->in, (int)c->in_len);
    end += 4;
    c->in_len -= end - c->in;
    memmove(c->in, end, c->in_len);
    c->state = JOINING;
    if (join) {
      char text[8192];
      send_frame(c, 1, text, fill(text, join, c - all, 0));
    }
    if (!joined_word) joined(c);
  }
  on_frames(c);
}

static void start_connecting(int i) {
  Conn *c = &all[i];
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
  inet_pton(AF_INET, host, &to.sin_addr);
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (c->fd < 0) give_up("socket", strerror(errno), 99);
  if (connect(c->fd, (void *)&to, sizeof to) && errno != EINPROGRESS) give_up("connect", strerror(errno), 99);
  c->in = malloc(BUFFER);
  c->wants_out = 1;
  struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT, .data.u32 = i};
  epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &ev);
}

static void on_connected(Conn *c) {
  int failed = 0, one = 1;
  socklen_t n = sizeof failed;
  getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &failed, &n);
  if (failed) give_up("connect", strerror(failed), 99);
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  char target[8192];
  fill(target, paths ? paths[(c - all) % path_count] : path, c - all, 0);
  char *d = reserve_out(c, strlen(target) + 512);
  c->out_len += sprintf(d,
                        "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s%s%s\r\n",
                        target, host, port, subprotocol ? "Sec-WebSocket-Protocol: " : "",
                        subprotocol ? subprotocol : "", subprotocol ? "\r\n" : "");
  c->state = SHAKING;
  flush_out(c);
}

// What has come in, for at most `ms`; true if the descriptor `other` is readable.
static int turn(int ms, int other) {
  struct epoll_event evs[1024];
  int ready = 0, n = epoll_wait(poller, evs, 1024, ms);
  for (int k = 0; k < n; k++) {
    if (evs[k].data.u32 == UINT32_MAX) {
      ready = other >= 0;
      continue;
    }
    Conn *c = &all[evs[k].data.u32];
    if (c->state == CLOSED) continue;
    if (evs[k].events & (EPOLLOUT | EPOLLERR) && c->state == CONNECTING) on_connected(c);
    else if (evs[k].events & EPOLLOUT) flush_out(c);
    if (evs[k].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) on_readable(c);
  }
  // To be woken for every single frame would cost the server more than sending it: it runs on this machine, other
  // clients do not. So while deliveries trickle in, they gather for a moment (it counts as latency).
  if (n > 0 && n < 64 && conns > 256) nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
  return ready;
}

static void connect_all(void) {
  int64_t progress = now_ns();
  while (live + closed_count < conns) {
    while (opened < conns && opened - live - closed_count < parallel) start_connecting(opened++);
    int before = live;
    turn(100, -1);
    if (live != before) progress = now_ns();
    else if (now_ns() - progress > PATIENCE * 1e9) give_up("connections do not come about", "", 0);
  }
}

static void publish(uint64_t k, int64_t due) {
  static char text[70000];
  Conn *c = &all[k / rooms % publishers * rooms + k % rooms];
  if (c->state == LIVE) send_frame(c, 1, text, fill(text, template, c - all, due));
}

static void drain(double most, uint64_t expected) {
  int64_t until = now_ns() + most * 1e9;
  while (now_ns() < until && (delivered < expected || (strchr(template, '#') && acknowledged < expected / (conns / rooms))))
    turn(5, -1);
}

static int start_timer(int64_t period) {
  int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  struct itimerspec spec = {.it_interval = {period / 1000000000, period % 1000000000}, .it_value = {0, 1}};
  timerfd_settime(timer, 0, &spec, NULL);
  struct epoll_event ev = {.events = EPOLLIN, .data.u32 = UINT32_MAX};
  epoll_ctl(poller, EPOLL_CTL_ADD, timer, &ev);
  return timer;
}

static double cpu_seconds(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

// Whoever reads our output can look at the server at these moments.
static void tell(const char *moment) {
  printf("{\"moment\":\"%s\"}\n", moment);
  fflush(stdout);
}

static void publish_all(double connect_s) {
  double period = 1e9 / rate;
  int timer = start_timer(period < 1e6 ? 1000000 : (int64_t)period);
  int64_t start = now_ns() + 300000000, late = 0;
  window_from = start + warm_up * 1e9;
  window_to = window_from + seconds * 1e9;
  uint64_t sent = 0, counted = 0;
  double cpu = 0;
  while (now_ns() < window_to) {
    uint64_t ticks;
    if (turn(10, timer) && read(timer, &ticks, 8) < 0) continue;
    int64_t now = now_ns(), due;
    if (!cpu && now >= window_from) {
      cpu = cpu_seconds();
      tell("measuring");
    }
    while ((due = start + (int64_t)(sent * period)) <= now && due < window_to) {
      if (due >= window_from) {
        counted++;
        if (now - due > late) late = now - due;
      }
      publish(sent++, due);
    }
  }
  cpu = (cpu_seconds() - cpu) / seconds;
  tell("measured");
  int64_t ended = now_ns();
  uint64_t expected = counted * (conns / rooms);
  drain(3, expected);
  double took = ((last_delivery > ended ? last_delivery : ended) - window_from) / 1e9;
  printf("{\"connections\":%d,\"rooms\":%d,\"rate\":%.0f,\"connect_s\":%.3f,\"sent\":%llu,"
         "\"expected\":%llu,\"delivered\":%llu,\"ratio\":%.6f,\"acknowledged\":%llu,\"window_s\":%.3f,"
         "\"took_s\":%.3f,\"megabytes\":%.1f,\"closed\":%d,\"close_code\":%d,\"errors\":%llu,"
         "\"load_cpu\":%.3f,\"late_ms\":%.3f,",
         conns, rooms, rate, connect_s, (unsigned long long)counted, (unsigned long long)expected,
         (unsigned long long)delivered, expected ? (double)delivered / expected : 0, (unsigned long long)acknowledged,
         seconds, took, bytes / 1e6, closed_count, close_code, (unsigned long long)errors, cpu,
         late / 1e6);
  print_latencies("latency_ms", &deliveries);
  printf(",");
  print_latencies("ack_ms", &acks);
  printf("}\n");
}

static void hold_all(double connect_s) {
  printf("{\"connections\":%d,\"connect_s\":%.3f}\n", live, connect_s);
  fflush(stdout);
  struct epoll_event ev = {.events = EPOLLIN, .data.u32 = UINT32_MAX};
  epoll_ctl(poller, EPOLL_CTL_ADD, 0, &ev);
  window_to = INT64_MAX;
  for (;;) {
    char line[256];
    if (!turn(1000, 0)) continue;
    ssize_t k = read(0, line, sizeof line);
    if (k <= 0) break;
    memset(&deliveries, 0, sizeof deliveries);
    delivered = acknowledged = 0;
    publish(0, now_ns());
    drain(30, conns / rooms);
    printf("{\"delivered\":%llu,\"closed\":%d,", (unsigned long long)delivered, closed_count);
    print_latencies("latency_ms", &deliveries);
    printf("}\n");
    fflush(stdout);
  }
}

static void read_paths(const char *name) {
  FILE *f = fopen(name, "r");
  char line[8192];
  if (!f) give_up("cannot read", name, 999);
  while (fgets(line, sizeof line, f)) {
    line[strcspn(line, "\r\n")] = 0;
    paths = realloc(paths, sizeof(char *) * (path_count + 1));
    paths[path_count++] = strdup(line);
  }
  fclose(f);
  if (!path_count) give_up("no paths in", name, 999);
}

int main(int argc, char **argv) {
  int option;
  while ((option = getopt(argc, argv, "h:p:n:P:r:s:b:u:j:k:m:f:w:S:g:c:H")) != -1) switch (option) {
    case 'h': host = optarg; break;
    case 'p': port = atoi(optarg); break;
    case 'n': conns = atoi(optarg); break;
    case 'P': publishers = atoi(optarg); break;
    case 'r': rate = atof(optarg); break;
    case 's': seconds = atof(optarg); break;
    case 'b': size = atoi(optarg); break;
    case 'u': path = optarg; break;
    case 'j': join = optarg; break;
    case 'k': joined_word = optarg; break;
    case 'm': template = optarg; break;
    case 'f': read_paths(optarg); break;
    case 'w': warm_up = atof(optarg); break;
    case 'S': subprotocol = optarg; break;
    case 'g': rooms = atoi(optarg); break;
    case 'c': parallel = atoi(optarg); break;
    case 'H': hold = 1; break;
    default: return 2;
  }
  if (conns < 1 || rooms < 1 || conns % rooms || publishers * rooms > conns || size < MARK || size > 60000)
    give_up("these options do not go together", "", 0);
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  all = calloc(conns, sizeof(Conn));
  poller = epoll_create1(0);
  int64_t began = now_ns();
  connect_all();
  double connect_s = (now_ns() - began) / 1e9;
  if (hold) hold_all(connect_s);
  else publish_all(connect_s);
  if (errors) fprintf(stderr, "fanload: %llu error frames, the first: %s\n", (unsigned long long)errors, first_error);
  return 0;
}
