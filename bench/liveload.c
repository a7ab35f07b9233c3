// A load client for live streams: one source and N progressive listeners in one thread and one epoll.
//
// The source pushes MP3 at 128 kbit/s, 44.1 kHz: frames of 417 or 418 bytes, one every 26.12 ms, each with its number, the
// time it was due and a filling that follows from the number. So every listener's bytes are checked frame by frame (number
// after number, no byte changed), and every frame is measured against the time it was due: a server, or a load client,
// that falls behind shows as delay. Frames of the burst, which are old when a listener comes, are checked but not
// measured. It prints lines of JSON: the moments `alone` (the source pushes, nobody listens), `listening`, `measuring`
// and `measured`, at which whoever reads them looks at the server, then what was measured.
//
//   cc -O2 -o liveload liveload.c
//   liveload -p PORT -m MOUNT -a BASIC64 -n LISTENERS [-s SECONDS] [-w WARM-UP] [-c CONNECTING at once]
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

#define FRAME 417               // bytes, and one more where padded
#define FRAME_NS (1152 * 1e9 / 44100)
#define HEAD 4           // of an MP3 frame
#define MARKS (12 + 20)  // its number, and when it was due
#define HELD 8192        // bytes of a listener kept between two reads: an HTTP head, or part of a frame
#define PATIENCE 60.0
#define STARVED 1e9      // nanoseconds without a byte while measured

enum { CONNECTING, ASKED, SEEKING, IN_STEP, CLOSED };
typedef struct {
  int fd, state;
  size_t held;
  char *hold;
  int64_t next, last_read, longest, joined;
  uint64_t delivered;
} Listener;

static const char *host = "127.0.0.1", *mount = "/live", *basic = "";
static int port = 8000, count = 100, parallel = 64;
static double seconds = 10, warm_up = 2;

static Listener *all;
static int poller, source = -1, timer, listening, opened, closed;
static int64_t start, sent, window_from = INT64_MAX, window_to = INT64_MAX, late;
static uint64_t delivered, corrupt, lost, bytes, seeking;
static char filling[26][FRAME + 1];

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void give_up(const char *why, const char *detail, int n) {
  fprintf(stderr, "liveload: %s: %.*s\n", why, n, detail);
  exit(1);
}

// Latencies: 128 steps for every doubling, so a percentile is true within 1 %.
static uint64_t histogram[57 * 128 + 128], measured;
static int64_t worst, best;

static void record(int64_t v) {
  if (v < 1) v = 1;
  int e = 63 - __builtin_clzll(v) - 7;
  if (e < 0) e = 0;
  histogram[e * 128 + (v >> e)]++;
  if (v > worst) worst = v;
  if (!measured || v < best) best = v;
  measured++;
}

static double at_share(double share) {
  uint64_t left = share * (measured - 1);
  if (!measured) return 0;
  for (size_t i = 0; i < sizeof histogram / 8; i++) {
    if (left < histogram[i]) {
      int e = i < 256 ? 0 : i / 128 - 1;
      int64_t v = (int64_t)(i - e * 128) << e;
      return (v > worst ? worst : v) / 1e6;
    }
    left -= histogram[i];
  }
  return worst / 1e6;
}

// The source.
static int64_t due_at(int64_t number) { return start + (int64_t)(number * FRAME_NS); }

static size_t make_frame(char *d, int64_t number, int64_t due) {
  // 144 * 128000 / 44100 = 417 + 47/49 bytes: all but two of 49 frames are padded.
  int padded = (number + 1) * 47 / 49 > number * 47 / 49;
  char marks[MARKS + 1];
  memcpy(d, padded ? "\xff\xfb\x92\x04" : "\xff\xfb\x90\x04", HEAD);
  snprintf(marks, sizeof marks, "%012lld%020lld", (long long)number, (long long)due);
  memcpy(d + HEAD, marks, MARKS);
  memcpy(d + HEAD + MARKS, filling[number % 26], FRAME + padded - HEAD - MARKS);
  return FRAME + padded;
}

// The length of the frame whose head this is; 0 if it is none.
static size_t frame_length(const char *d) {
  if (d[0] != '\xff' || d[1] != '\xfb' || d[3] != '\x04') return 0;
  return d[2] == '\x90' ? FRAME : d[2] == '\x92' ? FRAME + 1 : 0;
}

static void push(int64_t now) {
  int64_t due;
  while ((due = due_at(sent)) <= now) {
    char frame[FRAME + 1];
    if (due >= window_from && due < window_to && now - due > late) late = now - due;
    size_t at = 0, size = make_frame(frame, sent++, due);
    while (at < size) {
      ssize_t k = send(source, frame + at, size - at, MSG_NOSIGNAL);
      if (k < 0 && errno == EAGAIN) continue;
      if (k < 0) give_up("the server let go of the source", strerror(errno), 99);
      at += k;
    }
  }
}

static int dial(void) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
  inet_pton(AF_INET, host, &to.sin_addr);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
  if (fd < 0) give_up("socket", strerror(errno), 99);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (connect(fd, (void *)&to, sizeof to) && errno != EINPROGRESS) give_up("connect", strerror(errno), 99);
  return fd;
}

static void open_source(void) {
  char text[2048];
  source = dial();
  size_t n = snprintf(text, sizeof text,
                      "PUT %s HTTP/1.1\r\nHost: %s:%d\r\nAuthorization: Basic %s\r\nUser-Agent: liveload\r\n"
                      "Content-Type: audio/mpeg\r\nIce-Public: 0\r\nExpect: 100-continue\r\n\r\n",
                      mount, host, port, basic);
  int64_t until = now_ns() + 5e9;
  while (send(source, text, n, MSG_NOSIGNAL) < 0) {
    if (now_ns() > until) give_up("the source cannot connect", strerror(errno), 99);
    if (errno == EPIPE || errno == ECONNREFUSED) {  // not listening yet
      close(source);
      source = dial();
    }
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
  ssize_t k;
  while ((k = recv(source, text, sizeof text, 0)) < 0)
    if (now_ns() > until) give_up("the source is not answered", "", 0);
  if (k < 12 || (strncmp(text + 9, "100", 3) && strncmp(text + 9, "200", 3))) give_up("the source is refused", text, k);
}

// Listeners.
static void on_frame(Listener *l, const char *f, size_t size, int64_t now) {
  char digits[21] = {0};
  memcpy(digits, f + HEAD, 12);
  int64_t number = atoll(digits);
  memcpy(digits, f + HEAD + 12, 20);
  int64_t due = atoll(digits);
  if (number < 0 || memcmp(f + HEAD + MARKS, filling[number % 26], size - HEAD - MARKS)) corrupt++;
  if (number != l->next) lost++;
  l->next = number + 1;
  if (due < window_from || due >= window_to) return;
  delivered++;
  l->delivered++;
  record(now - due);
}

static void is_listening(Listener *l, int64_t now) {
  l->state = SEEKING;
  l->joined = now;
  listening++;
}

static void gone(Listener *l) {
  if (l->state < SEEKING) give_up("a listener is refused", l->hold, (int)l->held);
  l->state = CLOSED;
  closed++;
  close(l->fd);
}

static void on_readable(Listener *l) {
  static char buffer[256 * 1024];
  memcpy(buffer, l->hold, l->held);
  ssize_t k = recv(l->fd, buffer + l->held, sizeof buffer - l->held, 0);
  if (k <= 0) {
    if (k == 0 || errno != EAGAIN) gone(l);
    return;
  }
  int64_t now = now_ns();
  if (now >= window_from && now < window_to) {
    int64_t since = l->last_read > window_from ? l->last_read : window_from;
    if (now - since > l->longest) l->longest = now - since;
  }
  l->last_read = now;
  bytes += k;
  char *at = buffer, *end = buffer + l->held + k;
  if (l->state == ASKED) {
    char *body = memmem(at, end - at, "\r\n\r\n", 4);
    if (body) {
      if (strncmp(at + 9, "200", 3)) give_up("a listener is refused", at, 300);
      at = body + 4;
      is_listening(l, now);
    }
  }
  if (l->state == SEEKING) {  // some servers begin in the middle of a frame
    char *first = at;
    while (end - at >= HEAD + MARKS && (!frame_length(at) || at[HEAD] != '0')) at++;
    seeking += at - first;
    if (end - at >= HEAD + MARKS) {
      char digits[13] = {0};
      memcpy(digits, at + HEAD, 12);
      l->next = atoll(digits);
      l->state = IN_STEP;
    }
  }
  if (l->state == IN_STEP) {
    while (end - at >= HEAD) {
      size_t size = frame_length(at);
      if (!size) give_up("a listener's bytes are not those of the source", "", 0);
      if ((size_t)(end - at) < size) break;
      on_frame(l, at, size, now);
      at += size;
    }
  }
  l->held = end - at;
  if (l->held > HELD) give_up("a head too long", at, 300);
  memcpy(l->hold, at, l->held);
}

static void on_connected(Listener *l) {
  int failed = 0;
  socklen_t n = sizeof failed;
  getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &failed, &n);
  if (failed) give_up("connect", strerror(failed), 99);
  char text[1024];
  int size = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUser-Agent: liveload\r\n\r\n", mount, host, port);
  if (send(l->fd, text, size, MSG_NOSIGNAL) != size) give_up("cannot ask", strerror(errno), 99);
  l->state = ASKED;
  struct epoll_event ev = {.events = EPOLLIN, .data.u32 = l - all};
  epoll_ctl(poller, EPOLL_CTL_MOD, l->fd, &ev);
}

static void start_listening(int i) {
  Listener *l = &all[i];
  l->fd = dial();
  l->hold = malloc(HELD);
  struct epoll_event ev = {.events = EPOLLOUT, .data.u32 = i};
  epoll_ctl(poller, EPOLL_CTL_ADD, l->fd, &ev);
}

static void turn(int ms) {
  struct epoll_event evs[1024];
  int heard = 0, n = epoll_wait(poller, evs, 1024, ms);
  for (int k = 0; k < n; k++) {
    if (evs[k].data.u32 == UINT32_MAX) {
      uint64_t ticks;
      if (read(timer, &ticks, 8) > 0) push(now_ns());
      continue;
    }
    Listener *l = &all[evs[k].data.u32];
    if (l->state == CLOSED) continue;
    heard++;
    if (l->state == CONNECTING) on_connected(l);
    else on_readable(l);
  }
  // To be woken for every single delivery would cost the server more than sending it: it runs on this machine, other
  // clients do not. So while deliveries trickle in, they gather for a moment (it counts as delay).
  if (heard && n < 64 && count > 256) nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
}

static void run_until(int64_t when) {
  while (now_ns() < when) turn(10);
}

static double cpu_seconds(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

// Whoever reads our output can look at the server at these moments; the source goes on meanwhile.
static void tell(const char *moment) {
  printf("{\"moment\":\"%s\"}\n", moment);
  fflush(stdout);
}

int main(int argc, char **argv) {
  int option;
  while ((option = getopt(argc, argv, "p:m:a:n:s:w:c:")) != -1) {
    if (option == 'p') port = atoi(optarg);
    else if (option == 'm') mount = optarg;
    else if (option == 'a') basic = optarg;
    else if (option == 'n') count = atoi(optarg);
    else if (option == 's') seconds = atof(optarg);
    else if (option == 'w') warm_up = atof(optarg);
    else if (option == 'c') parallel = atoi(optarg);
    else return 2;
  }
  for (int i = 0; i < 26; i++)
    for (int k = 0; k <= FRAME; k++) filling[i][k] = 'a' + (i + k * 7) % 26;
  all = calloc(count, sizeof *all);
  poller = epoll_create1(0);
  open_source();
  timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  struct itimerspec spec = {.it_interval = {0, 2000000}, .it_value = {0, 1}};
  timerfd_settime(timer, 0, &spec, NULL);
  struct epoll_event ev = {.events = EPOLLIN, .data.u32 = UINT32_MAX};
  epoll_ctl(poller, EPOLL_CTL_ADD, timer, &ev);
  start = now_ns() - (int64_t)6e9;  // so that there is a burst to be had
  run_until(now_ns() + (int64_t)1.5e9);
  tell("alone");
  run_until(now_ns() + (int64_t)0.5e9);
  int64_t began = now_ns(), progress = began;
  for (int before = 0; listening < count; before = listening) {
    while (opened < count && opened - listening < parallel) start_listening(opened++);
    turn(10);
    if (listening != before) progress = now_ns();
    else if (now_ns() - progress > PATIENCE * 1e9) give_up("listeners do not get in", "", 0);
  }
  double connect_s = (now_ns() - began) / 1e9;
  run_until(now_ns() + (int64_t)(warm_up * 1e9));
  tell("listening");
  run_until(now_ns() + (int64_t)0.3e9);
  double cpu = cpu_seconds();
  uint64_t bytes_before = bytes;
  window_from = now_ns();
  window_to = window_from + seconds * 1e9;
  tell("measuring");
  run_until(window_to);
  tell("measured");
  cpu = (cpu_seconds() - cpu) / seconds;
  double megabits = (bytes - bytes_before) * 8 / seconds / 1e6;
  run_until(now_ns() + (int64_t)1.5e9);
  int64_t first = 0, last;
  while (due_at(first) < window_from) first++;
  for (last = first; due_at(last) < window_to;) last++;
  uint64_t expected = (uint64_t)(last - first) * count;
  int starved = 0, unheard = 0;
  for (int i = 0; i < count; i++) {
    starved += all[i].longest > STARVED || all[i].delivered < (uint64_t)(last - first);
    unheard += all[i].state != IN_STEP;
  }
  printf("{\"listeners\":%d,\"connect_s\":%.3f,\"window_s\":%.3f,\"expected\":%llu,\"delivered\":%llu,\"ratio\":%.6f,"
         "\"lost\":%llu,\"corrupt\":%llu,\"starved\":%d,\"unheard\":%d,\"closed\":%d,\"megabits_per_s\":%.1f,"
         "\"load_cpu\":%.3f,\"late_ms\":%.3f,\"delay_ms\":{\"count\":%llu,\"min\":%.3f,\"p50\":%.3f,\"p90\":%.3f,"
         "\"p99\":%.3f,\"p999\":%.3f,\"max\":%.3f}}\n",
         count, connect_s, seconds, (unsigned long long)expected, (unsigned long long)delivered,
         expected ? (double)delivered / expected : 0, (unsigned long long)lost, (unsigned long long)corrupt, starved,
         unheard, closed, megabits, cpu, late / 1e6, (unsigned long long)measured, best / 1e6, at_share(.5),
         at_share(.9), at_share(.99), at_share(.999), worst / 1e6);
  return 0;
}
