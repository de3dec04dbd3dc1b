import bunpilot from './index.cjs';

export const { defineConfig } = bunpilot;
