import hooks from 'eslint-plugin-react-hooks';
import typescript from 'typescript-eslint';

export default typescript.config(
  { ignores: ['dist', 'node_modules'] },
  ...typescript.configs.recommendedTypeChecked,
  { languageOptions: { parserOptions: { project: 'tsconfig.check.json' } } },
  {
    files: ['src/**'],
    plugins: { 'react-hooks': hooks },
    rules: { 'react-hooks/rules-of-hooks': 'error', 'react-hooks/exhaustive-deps': 'error' },
  },
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },
);
