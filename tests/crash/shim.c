/* Sees every call that changes what lies below one folder, in a process and in all that it starts.

   Preloaded (LD_PRELOAD), so it sees Python, C extensions and C git alike. Each such call is a step;
   the steps of all processes share one counter. What is done at the n-th is told by the control file
   (see Control in shim.py, which has the same layout): nothing, a record of it, SIGKILL, or an error.

   Not seen: memory-mapped writes (their mapping is a step of kind P), and the bytes that C's own
   streams write before they are flushed or closed (the flush is the step). */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum mode { OFF, RECORD, KILL, TEAR, FAIL_ONCE, FAIL_ON };
enum who { SELF, MAIN, ALL, WORKERS };
#define PIDS 256

struct control {
  long count, at, fired, blobs;
  int mode, who, error, leader, pid_count, busy;
  int pids[PIDS];
  char kinds[64], fired_what[64], fired_path[PATH_MAX];
  char below[PATH_MAX], log[PATH_MAX], blob_folder[PATH_MAX];
};

static struct control *control;
static char control_path[PATH_MAX];
static int known_pid;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
/* Looked up once: dlsym may not be used between fork and exec. */
#define CALL(name, ...)                                                                    \
  ({                                                                                       \
    static __typeof__(&name) real_;                                                        \
    if (!real_) real_ = REAL(name);                                                        \
    real_(__VA_ARGS__);                                                                    \
  })

/* Also called by tests.crash.zygote in a fork of its own. */
int crash_arm(const char *path) {
  int fd = CALL(open, path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return -1;
  void *found = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (found == MAP_FAILED) return -1;
  snprintf(control_path, sizeof control_path, "%s", path);
  control = found;
  __sync_bool_compare_and_swap(&control->leader, 0, getpid());
  return 0;
}

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("MIRROR_CRASH_CONTROL");
  if (path && *path) crash_arm(path);
}

static const char *fd_path(int fd, char *out) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t size = readlink(link, out, PATH_MAX - 1);
  if (size < 0) return NULL;
  out[size] = 0;
  return out;
}

static const char *full(int dir, const char *path, char *out) {
  char base[PATH_MAX];
  if (!path) return NULL;
  if (path[0] == '/') {
    snprintf(out, PATH_MAX, "%s", path);
  } else {
    if (dir == AT_FDCWD ? !getcwd(base, sizeof base) : !fd_path(dir, base)) return NULL;
    if (snprintf(out, PATH_MAX, "%s/%s", base, strcmp(path, ".") ? path : "") >= PATH_MAX) return NULL;
  }
  size_t size = strlen(out);
  while (size > 1 && out[size - 1] == '/') out[--size] = 0;
  return out;
}

static int is_below(const char *path) {
  if (!path) return 0;
  size_t size = strlen(control->below);
  return size && !strncmp(path, control->below, size) && (path[size] == '/' || !path[size]);
}

static void note(const char *format, ...) {
  char line[3 * PATH_MAX];
  va_list values;
  va_start(values, format);
  int size = vsnprintf(line, sizeof line, format, values);
  va_end(values);
  int fd = CALL(open, control->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0 || CALL(write, fd, line, size) != size) abort();
  close(fd);
}

static void kill_others(int spare) {
  for (int i = 0; i < PIDS && i < control->pid_count; i++) {
    int pid = control->pids[i];
    if (pid > 0 && pid != spare && pid != getpid()) kill(pid, SIGKILL);
  }
}

static void strike(char kind) {
  int me = getpid();
  if (control->who == ALL || kind == 'E') kill_others(0);
  if (control->who == ALL || control->who == SELF || kind == 'E') kill(me, SIGKILL);
  if (control->who == MAIN) kill(control->leader, SIGKILL);
  if (control->who == WORKERS) {
    kill_others(control->leader);
    if (me != control->leader) kill(me, SIGKILL);
  }
}

/* Count a step. Returns 0 to go on, 1 where half of a write is to be done before the end, -1 where the
   call fails with errno. In RECORD, the caller holds the turn until `done`. */
static int step(char kind, const char *path, const char *other) {
  int saved = errno;
  if (known_pid != getpid()) {
    known_pid = getpid();
    int place = __sync_fetch_and_add(&control->pid_count, 1);
    if (place < PIDS) control->pids[place] = known_pid;
  }
  if (control->mode == RECORD)
    while (!__sync_bool_compare_and_swap(&control->busy, 0, 1)) sched_yield();
  long number = __sync_add_and_fetch(&control->count, 1);
  if (control->mode == RECORD)
    note("step\t%ld\t%c\t%d\t%s\t%s\n", number, kind, getpid() != control->leader, path, other ? other : "");
  errno = saved;
  int strikes = control->mode == KILL || control->mode == TEAR;
  int fails = (control->mode == FAIL_ONCE || control->mode == FAIL_ON) && strchr(control->kinds, kind);
  if ((strikes && number != control->at) || (!strikes && !fails) || number < control->at) return 0;
  if (__sync_fetch_and_add(&control->fired, 1)) {
    if (control->mode != FAIL_ON) return 0;
  } else {
    snprintf(control->fired_what, sizeof control->fired_what, "step %ld, kind %c, %s", number, kind,
             getpid() == control->leader ? "main" : "worker");
    snprintf(control->fired_path, PATH_MAX, "%s", path);
  }
  if (fails) {
    errno = control->error;
    return -1;
  }
  if (control->mode == TEAR && kind == 'W') return 1;
  strike(kind);
  return 0;
}

static void done(void) {
  if (control && control->mode == RECORD) __sync_bool_compare_and_swap(&control->busy, 1, 0);
}

static void effect(char kind, const char *path, const char *other, long number) {
  if (control->mode != RECORD) return;
  int saved = errno;
  note("effect\t%c\t%s\t%s\t%ld\n", kind, path, other ? other : "", number);
  errno = saved;
}

/* The content of a file at its fsync, kept beside the record. */
static void keep_content(int fd, const char *path) {
  if (control->mode != RECORD) return;
  int saved = errno;
  char link[64], name[PATH_MAX], data[65536];
  long number = ++control->blobs;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  snprintf(name, sizeof name, "%.3800s/%ld", control->blob_folder, number);
  int from = CALL(open, link, O_RDONLY | O_CLOEXEC);
  int to = CALL(open, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  ssize_t size;
  if (from < 0 || to < 0) abort();
  while ((size = read(from, data, sizeof data)) > 0)
    if (CALL(write, to, data, size) != size) abort();
  close(from);
  close(to);
  effect('S', path, NULL, number);
  errno = saved;
}

#define ON_PATH(kind, dir, path, fail)                                                    \
  char where[PATH_MAX];                                                                   \
  int seen = control && control->mode && is_below(full(dir, path, where));                \
  if (seen && step(kind, where, NULL) < 0) return fail
#define ON_FD(kind, fd, fail)                                                             \
  char where[PATH_MAX];                                                                   \
  int seen = control && control->mode && is_below(fd_path(fd, where));                    \
  int half = seen ? step(kind, where, NULL) : 0;                                          \
  if (half < 0) return fail
#define ENDED(kind, ok)                                                                   \
  if (seen) {                                                                             \
    if (ok) effect(kind, where, NULL, 0);                                                 \
    done();                                                                               \
  }

/* -- opening */

static int open_at(int dir, const char *path, int flags, mode_t mode) {
  char where[PATH_MAX];
  int writes = (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC);
  int seen = control && control->mode && writes && is_below(full(dir, path, where));
  int is_new = 0;
  if (seen) {
    struct stat found;
    int saved = errno;
    is_new = flags & O_CREAT && lstat(where, &found) < 0;
    errno = saved;
    if (step(is_new || flags & O_TRUNC ? 'C' : 'O', where, NULL) < 0) return -1;
  }
  int fd = CALL(openat64, dir, path, flags, mode);
  if (seen) {
    if (fd >= 0 && is_new) effect('C', where, NULL, 0);
    if (fd >= 0 && !is_new && flags & O_TRUNC) effect('T', where, NULL, 0);
    done();
  }
  return fd;
}

#define MODE_OF(flags)                                                                    \
  mode_t mode = 0;                                                                        \
  if ((flags) & O_CREAT || ((flags) & O_TMPFILE) == O_TMPFILE) {                          \
    va_list values;                                                                       \
    va_start(values, flags);                                                              \
    mode = va_arg(values, mode_t);                                                        \
    va_end(values);                                                                       \
  }

int open(const char *path, int flags, ...) { MODE_OF(flags) return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE_OF(flags) return open_at(AT_FDCWD, path, flags, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE_OF(flags) return open_at(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE_OF(flags) return open_at(dir, path, flags, mode); }
int __open_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

static int opens_to_write(const char *mode) { return strpbrk(mode, "wa+") != NULL; }

FILE *fopen64(const char *path, const char *mode) {
  if (!opens_to_write(mode)) return CALL(fopen64, path, mode);
  int flags = strchr(mode, '+') ? O_RDWR : O_WRONLY;
  if (mode[0] == 'w') flags |= O_CREAT | O_TRUNC;
  if (mode[0] == 'a') flags |= O_CREAT | O_APPEND;
  int fd = open_at(AT_FDCWD, path, flags | O_CLOEXEC, 0666);
  return fd < 0 ? NULL : fdopen(fd, mode);
}
FILE *fopen(const char *path, const char *mode) { return fopen64(path, mode); }

/* -- writing */

#define TORN(result)                                                                      \
  if (half) {                                                                             \
    result;                                                                               \
    strike('W');                                                                          \
  }

ssize_t write(int fd, const void *data, size_t size) {
  ON_FD('W', fd, -1);
  TORN(size / 2 ? CALL(write, fd, data, size / 2) : 0)
  ssize_t result = CALL(write, fd, data, size);
  ENDED('W', result >= 0)
  return result;
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
  ON_FD('W', fd, -1);
  TORN(CALL(write, fd, parts[0].iov_base, parts[0].iov_len / 2))
  ssize_t result = CALL(writev, fd, parts, count);
  ENDED('W', result >= 0)
  return result;
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
  ON_FD('W', fd, -1);
  TORN(size / 2 ? CALL(pwrite64, fd, data, size / 2, offset) : 0)
  ssize_t result = CALL(pwrite64, fd, data, size, offset);
  ENDED('W', result >= 0)
  return result;
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return pwrite64(fd, data, size, offset); }

ssize_t sendfile64(int to, int from, off64_t *offset, size_t size) {
  ON_FD('W', to, -1);
  TORN(CALL(sendfile64, to, from, offset, size / 2))
  ssize_t result = CALL(sendfile64, to, from, offset, size);
  ENDED('W', result >= 0)
  return result;
}
ssize_t sendfile(int to, int from, off_t *offset, size_t size) { return sendfile64(to, from, offset, size); }

ssize_t copy_file_range(int from, off64_t *at, int to, off64_t *there, size_t size, unsigned flags) {
  ON_FD('W', to, -1);
  TORN(CALL(copy_file_range, from, at, to, there, size / 2, flags))
  ssize_t result = CALL(copy_file_range, from, at, to, there, size, flags);
  ENDED('W', result >= 0)
  return result;
}

static int stream_writes(FILE *stream) {
  int flags = stream && control && control->mode ? fcntl(fileno(stream), F_GETFL) : -1;
  return flags >= 0 && (flags & O_ACCMODE) != O_RDONLY;
}
int fflush(FILE *stream) {
  if (!stream_writes(stream)) return CALL(fflush, stream);
  ON_FD('W', fileno(stream), EOF);
  TORN((void)0)
  int result = CALL(fflush, stream);
  ENDED('W', !result)
  return result;
}
int fclose(FILE *stream) {
  if (!stream_writes(stream)) return CALL(fclose, stream);
  ON_FD('W', fileno(stream), EOF);
  TORN((void)0)
  int result = CALL(fclose, stream);
  ENDED('W', !result)
  return result;
}

int ftruncate64(int fd, off64_t size) {
  ON_FD('T', fd, -1);
  (void)half;
  int result = CALL(ftruncate64, fd, size);
  if (seen && !result) effect('T', where, NULL, size);
  if (seen) done();
  return result;
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

int truncate64(const char *path, off64_t size) {
  ON_PATH('T', AT_FDCWD, path, -1);
  int result = CALL(truncate64, path, size);
  if (seen && !result) effect('T', where, NULL, size);
  if (seen) done();
  return result;
}
int truncate(const char *path, off_t size) { return truncate64(path, size); }

void *mmap64(void *at, size_t size, int may, int flags, int fd, off64_t offset) {
  char where[PATH_MAX];
  int seen = control && control->mode && fd >= 0 && may & PROT_WRITE && (flags & MAP_TYPE) != MAP_PRIVATE &&
             is_below(fd_path(fd, where));
  if (seen && step('P', where, NULL) < 0) return MAP_FAILED;
  void *result = CALL(mmap64, at, size, may, flags, fd, offset);
  ENDED('P', 1)
  return result;
}
void *mmap(void *at, size_t size, int may, int flags, int fd, off_t offset) {
  return mmap64(at, size, may, flags, fd, offset);
}

/* -- making durable */

static int sync_with(int (*real)(int), int fd) {
  char where[PATH_MAX];
  struct stat found;
  int is_folder = control && control->mode && !fstat(fd, &found) && S_ISDIR(found.st_mode);
  int seen = control && control->mode && is_below(fd_path(fd, where));
  if (seen && step(is_folder ? 'D' : 'S', where, NULL) < 0) return -1;
  int result = real(fd);
  if (seen && !result) {
    if (is_folder)
      effect('D', where, NULL, 0);
    else
      keep_content(fd, where);
  }
  if (seen) done();
  return result;
}
int fsync(int fd) { return sync_with(REAL(fsync), fd); }
int fdatasync(int fd) { return sync_with(REAL(fdatasync), fd); }

/* -- names */

static int rename_with(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
  char where[PATH_MAX], there[PATH_MAX];
  int seen = 0;
  if (control && control->mode) {
    const char *old = full(from_dir, from, where), *new = full(to_dir, to, there);
    seen = old && new && (is_below(old) || is_below(new));
  }
  if (seen && step('R', where, there) < 0) return -1;
  int result = flags ? CALL(renameat2, from_dir, from, to_dir, to, flags)
                     : CALL(renameat, from_dir, from, to_dir, to);
  if (seen && !result) effect('R', where, there, 0);
  if (seen) done();
  return result;
}
int rename(const char *from, const char *to) { return rename_with(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int d, const char *from, int e, const char *to) { return rename_with(d, from, e, to, 0); }
int renameat2(int d, const char *from, int e, const char *to, unsigned flags) {
  return rename_with(d, from, e, to, flags);
}

static int link_with(int from_dir, const char *from, int to_dir, const char *to, int flags) {
  char where[PATH_MAX], there[PATH_MAX];
  int seen = control && control->mode && full(from_dir, from, where) && is_below(full(to_dir, to, there));
  if (seen && step('L', where, there) < 0) return -1;
  int result = CALL(linkat, from_dir, from, to_dir, to, flags);
  if (seen && !result) effect('L', where, there, 0);
  if (seen) done();
  return result;
}
int link(const char *from, const char *to) { return link_with(AT_FDCWD, from, AT_FDCWD, to, 0); }
int linkat(int d, const char *from, int e, const char *to, int flags) { return link_with(d, from, e, to, flags); }

int symlink(const char *target, const char *path) {
  ON_PATH('C', AT_FDCWD, path, -1);
  int result = CALL(symlink, target, path);
  ENDED('C', !result)
  return result;
}
int unlinkat(int dir, const char *path, int flags) {
  char kind = flags & AT_REMOVEDIR ? 'X' : 'U';
  ON_PATH(kind, dir, path, -1);
  int result = CALL(unlinkat, dir, path, flags);
  ENDED(kind, !result)
  return result;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int mkdirat(int dir, const char *path, mode_t mode) {
  ON_PATH('M', dir, path, -1);
  int result = CALL(mkdirat, dir, path, mode);
  ENDED('M', !result)
  return result;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int chmod(const char *path, mode_t mode) {
  ON_PATH('H', AT_FDCWD, path, -1);
  int result = CALL(chmod, path, mode);
  ENDED('H', !result)
  return result;
}
int fchmod(int fd, mode_t mode) {
  ON_FD('H', fd, -1);
  (void)half;
  int result = CALL(fchmod, fd, mode);
  ENDED('H', !result)
  return result;
}
int fchmodat(int dir, const char *path, mode_t mode, int flags) {
  ON_PATH('H', dir, path, -1);
  int result = CALL(fchmodat, dir, path, mode, flags);
  ENDED('H', !result)
  return result;
}

/* -- other programs: they are watched, too, whatever environment they are given */

#define WORDS 512
int execve(const char *path, char *const words[], char *const environment[]) {
  if (!control || !control->mode) return CALL(execve, path, words, environment);
  if (access(path, X_OK) == 0) {
    if (step('E', path, NULL) < 0) return -1;
    done();
  }
  static char preload[PATH_MAX + 16], told[PATH_MAX + 32];
  Dl_info ours;
  dladdr((void *)crash_arm, &ours);
  snprintf(preload, sizeof preload, "LD_PRELOAD=%s", ours.dli_fname);
  snprintf(told, sizeof told, "MIRROR_CRASH_CONTROL=%s", control_path);
  char *changed[WORDS + 3];
  int count = 0;
  for (int i = 0; environment && environment[i] && count < WORDS; i++)
    if (strncmp(environment[i], "LD_PRELOAD=", 11) && strncmp(environment[i], "MIRROR_CRASH_CONTROL=", 21))
      changed[count++] = environment[i];
  changed[count++] = preload;
  changed[count++] = told;
  changed[count] = NULL;
  return CALL(execve, path, words, changed);
}
