# Stages what is in the backups of this host. Its variables and what it reads are those of restore.sh.

sub restore {
    umask 077;
    my ($base, $run) = @in{qw(base run)};
    my $top = "$base/$run";
    beat($in{patience});
    make_ours($base);
    # There is no commit without these files, so nothing that was staged is of use.
    push @at_end, sub { leave($top) };
    my @lines = split /\n/, take($in{files}), -1;
    find_hash() or fail('this host has no tool for sha256 or blake3 any more');
    my @files;
    while (@lines >= 2) {
        my ($head, $path) = splice @lines, 0, 2;
        my ($size, $mode, $count, $digest) = split / /, $head;
        my @places = map { "$base/$_" } splice @lines, 0, $count;
        push @files, {size => $size, mode => $mode, digest => $digest, path => $path, places => \@places};
    }
    my @lost = without_backup(\@files);
    if (@lost) {
        mark('lost');
        say_text("$_->{path}\n") for @lost;
        clean_up();
        return 'ok';
    }
    my ($received, $counts) = @{$received{$base} ||= [{}, {}]};
    for my $file (@files) {
        my $path = $file->{path};
        stage_copy($file->{places}[0], "$top/up/$path", $file->{mode})
            or fail("cannot copy $file->{places}[0] to the staging folder ($!)");
        $received->{$path} = 1;
        $counts->{$path =~ m{^(.*/)}s ? $1 : q()}++;
    }
    # What is staged is for the commit.
    pop @at_end;
    return 'ok';
}

# The files of which no place has what was there. Of the others, the first place has it afterwards.
sub without_backup {
    my ($files) = @_;
    my @open = @$files;
    my @lost;
    while (@open) {
        my @now;
        for my $file (@open) {
            my $places = $file->{places};
            shift @$places while @$places && !(lstat $places->[0] && -f _ && -s _ == $file->{size});
            push @{@$places ? \@now : \@lost}, $file;
        }
        my %sums = read_sums(sums_of([map { $_->{places}[0] } @now]));
        @open = grep { ($sums{$_->{places}[0]} || q()) ne $_->{digest} } @now;
        shift @{$_->{places}} for @open;
    }
    return @lost;
}

# Copies a file, with the time that it was modified.
sub stage_copy {
    my ($from, $to, $mode) = @_;
    sysopen my $in, $from, O_RDONLY | O_NOFOLLOW or return 0;
    sysopen my $out, $to, O_WRONLY | O_CREAT | O_EXCL, 0600 or return 0;
    while (1) {
        my $count = sysread $in, my $bytes, 1048576;
        if (!defined $count) { next if $!{EINTR}; return 0 }
        last unless $count;
        for (my $at = 0; $at < $count;) {
            my $written = syswrite $out, $bytes, $count - $at, $at;
            if (defined $written) { $at += $written }
            elsif (!$!{EINTR}) { return 0 }
        }
    }
    my ($uid, $gid, $time) = (stat $in)[4, 5, 9];
    utime $time, $time, $out;
    # As far as the login user may. What runs as its owner must not run as another one instead.
    my $bits = oct $mode;
    chown $uid, $gid, $out or chown -1, $gid, $out;
    my @is = stat $out;
    $bits &= ~04000 if $is[4] != $uid;
    $bits &= ~02000 if $is[5] != $gid;
    chmod $bits, $out or return 0;
    return close $out;
}
